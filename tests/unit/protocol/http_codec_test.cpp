#include "sim/protocol/http/http_codec.hpp"

#include <array>

#include <gtest/gtest.h>

namespace twinstorm::http {
namespace {

constexpr std::string_view kPatch =
    "PATCH /twins/d1?api-version=2021-04-12 HTTP/1.1\r\nHost: hub.example\r\nIf-Match: \"*\"\r\n"
    "Content-Length: 11\r\n\r\n{\"tags\":{}}";
constexpr std::string_view kChunkedPut =
    "PUT /devices/d1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    "4\r\n{\"a\"\r\n3;note=x\r\n:1}\r\n0\r\nTrailer-Field: t\r\n\r\n";

TEST(HttpRequest, IsReadWhole) {
  RequestParser parser;
  EXPECT_TRUE(parser.at_message_start());
  const auto fed = parser.feed(kPatch);
  EXPECT_EQ(fed.status, ParseStatus::complete);
  EXPECT_EQ(fed.consumed, kPatch.size());
  EXPECT_EQ(parser.method(), "PATCH");
  EXPECT_EQ(parser.target(), "/twins/d1?api-version=2021-04-12");
  EXPECT_EQ(parser.header("if-match"), "\"*\"");
  EXPECT_EQ(parser.header("X-Absent"), std::nullopt);
  EXPECT_EQ(parser.body(), "{\"tags\":{}}");
  EXPECT_TRUE(parser.keep_alive());
  EXPECT_FALSE(parser.at_message_start());
}

TEST(HttpRequest, IsTheSameHoweverItsBytesAreCut) {
  for (const auto text : {kPatch, kChunkedPut}) {
    RequestParser parser;
    for (size_t cut = 0; cut <= text.size(); ++cut) {
      const auto first = parser.feed(text.substr(0, cut));
      EXPECT_EQ(first.consumed, cut);
      const auto second = parser.feed(text.substr(cut));
      ASSERT_EQ(second.status, ParseStatus::complete) << "cut at " << cut << ": " << parser.error().message;
      EXPECT_EQ(first.consumed + second.consumed, text.size());
      EXPECT_EQ(parser.body(), text == kPatch ? "{\"tags\":{}}" : "{\"a\":1}");
      EXPECT_EQ(parser.method(), text.substr(0, text.find(' ')));
      parser.next();
    }
    for (const char byte : text) parser.feed({&byte, 1});
    EXPECT_EQ(parser.body(), text == kPatch ? "{\"tags\":{}}" : "{\"a\":1}") << "byte by byte";
  }
}

TEST(HttpRequest, MayBeCutInsideTheEndOfAnEmptyChunkedBody) {
  const std::string_view text = "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
  for (size_t first = 1; first <= 5; ++first) {
    RequestParser parser;
    parser.feed(text.substr(0, text.size() - first));
    ParseStatus status = ParseStatus::need_more;
    for (size_t i = text.size() - first; i < text.size(); ++i) status = parser.feed(text.substr(i, 1)).status;
    EXPECT_EQ(status, ParseStatus::complete) << "the last " << first << " bytes one by one";
    EXPECT_EQ(parser.body(), "");
  }
}

TEST(HttpRequest, StopsExactlyBehindItsMessage) {
  std::string stream;
  for (int i = 0; i < 20; ++i) stream.append(i % 2 == 0 ? kPatch : kChunkedPut);
  for (const size_t piece : {size_t{1}, size_t{7}, size_t{50}, size_t{180}, size_t{1000}, stream.size()}) {
    RequestParser parser;
    int messages = 0;
    for (size_t at = 0; at < stream.size(); at += piece) {
      std::string_view bytes = std::string_view{stream}.substr(at, piece);
      while (true) {
        const auto fed = parser.feed(bytes);
        ASSERT_NE(fed.status, ParseStatus::error) << parser.error().message;
        bytes.remove_prefix(fed.consumed);
        if (fed.status == ParseStatus::need_more) break;
        EXPECT_EQ(parser.body(), messages % 2 == 0 ? "{\"tags\":{}}" : "{\"a\":1}");
        ++messages;
        parser.next();
      }
      EXPECT_TRUE(bytes.empty());
    }
    EXPECT_EQ(messages, 20) << "in pieces of " << piece;
    EXPECT_TRUE(parser.at_message_start());
  }
}

TEST(HttpRequest, TakesNothingAfterItIsComplete) {
  RequestParser parser;
  parser.feed(kPatch);
  const auto fed = parser.feed("GET / HTTP/1.1\r\n");
  EXPECT_EQ(fed.consumed, 0U);
  EXPECT_EQ(fed.status, ParseStatus::complete);
}

TEST(HttpRequest, KnowsWhetherTheConnectionStays) {
  const auto keeps = [](std::string_view text) {
    RequestParser parser;
    EXPECT_EQ(parser.feed(text).status, ParseStatus::complete);
    return parser.keep_alive();
  };
  EXPECT_TRUE(keeps("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
  EXPECT_FALSE(keeps("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
  EXPECT_FALSE(keeps("GET / HTTP/1.0\r\n\r\n"));
  EXPECT_TRUE(keeps("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
}

TEST(HttpRequest, AsksForContinueBeforeItsBody) {
  RequestParser parser;
  EXPECT_FALSE(parser.expects_continue());
  parser.feed("PUT /devices/d HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_TRUE(parser.header_complete());
  EXPECT_TRUE(parser.expects_continue());
  EXPECT_EQ(parser.feed("{}").status, ParseStatus::complete);
  std::string out;
  append_continue(out);
  EXPECT_EQ(out, "HTTP/1.1 100 Continue\r\n\r\n");
}

TEST(HttpRequest, RefusesWhatTwoReadersCouldReadDifferently) {
  struct Case {
    const char* headers;
    int status;
    const char* says;  // empty: any reason
  };
  for (const auto& one : {
           Case{"Host: h\r\nContent-Length: 2\r\nContent-Length: 2\r\n", 400, "repeated Content-Length"},
           Case{"Host: h\r\nContent-Length: 2, 2\r\n", 400, "repeated Content-Length"},
           Case{"Host: h\r\nContent-Length: 2\r\nContent-Length: 3\r\n", 400, ""},
           Case{"Host: h\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n", 400, ""},
           Case{"Host: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n", 400, ""},
           Case{"Host: h\r\nTransfer-Encoding: gzip\r\nContent-Length: 2\r\n", 400, "together with Content-Length"},
           Case{"Host: h\r\nTransfer-Encoding: gzip, chunked\r\n", 501, "other than chunked"},
           Case{"Host: h\r\nTransfer-Encoding: chunked, chunked\r\n", 501, "other than chunked"},
           Case{"Host: h\r\nTransfer-Encoding: xchunked\r\n", 501, "other than chunked"},
           Case{"Host: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400, ""},
           Case{"Host: h\r\nContent-Length: +2\r\n", 400, ""},
           Case{"Host: h\r\nContent-Length: 0x2\r\n", 400, ""},
           Case{"Host: h\r\nContent-Length : 2\r\n", 400, ""},
           Case{"Host: a\r\nHost: b\r\n", 400, "exactly one Host"},
           Case{"", 400, "exactly one Host"},
           Case{"Host: h\nX: y\r\n", 400, ""},
       }) {
    SCOPED_TRACE(one.headers);
    RequestParser parser;
    const auto fed = parser.feed(std::string{"POST /devices HTTP/1.1\r\n"} + one.headers + "\r\n[]");
    ASSERT_EQ(fed.status, ParseStatus::error);
    EXPECT_EQ(parser.error_status(), one.status);
    EXPECT_EQ(parser.error().message.substr(0, 6), "HTTP: ");
    EXPECT_NE(parser.error().message.find(one.says), std::string::npos) << parser.error().message;
    EXPECT_EQ(parser.error().code, ErrorCode::protocol);
  }
}

TEST(HttpRequest, DropsTrailerFields) {
  const std::string text =
      "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nIf-Match: \"1\"\r\n\r\n"
      "3\r\nabc\r\n0\r\nHost: evil\r\nAuthorization: SharedAccessSignature x\r\nIf-Match: *\r\n"
      "Connection: close\r\n\r\n";
  for (const size_t piece : {size_t{1}, size_t{60}, size_t{100}, text.size()}) {
    SCOPED_TRACE(piece);
    RequestParser parser;
    ParseStatus status = ParseStatus::need_more;
    for (size_t at = 0; at < text.size(); at += piece) {
      ASSERT_EQ(status, ParseStatus::need_more);
      status = parser.feed(std::string_view{text}.substr(at, piece)).status;
    }
    ASSERT_EQ(status, ParseStatus::complete) << parser.error().message;
    EXPECT_EQ(parser.body(), "abc");
    EXPECT_EQ(parser.headers().size(), 3U);
    EXPECT_EQ(parser.header("Host"), "h");
    EXPECT_EQ(parser.header("If-Match"), "\"1\"");
    EXPECT_EQ(parser.header("Authorization"), std::nullopt);
    EXPECT_TRUE(parser.keep_alive()) << "a connection's fate stands in the header";
    parser.next();
    EXPECT_EQ(parser.feed(kPatch).status, ParseStatus::complete) << "and the next message is untouched";
    EXPECT_EQ(parser.header("Host"), "hub.example");
  }
}

TEST(HttpRequest, DoesNotTakeItsHostFromATrailer) {
  RequestParser parser;
  EXPECT_EQ(parser.feed("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: h\r\n\r\n").status,
            ParseStatus::error);
  EXPECT_EQ(parser.error_status(), 400);
}

TEST(HttpRequest, RefusesChunksInHttp10) {
  RequestParser parser;
  EXPECT_EQ(parser.feed("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").status, ParseStatus::error);
  EXPECT_EQ(parser.error().message, "HTTP: Transfer-Encoding in HTTP/1.0 (RFC 9112 section 6.1)");
}

TEST(HttpRequest, RefusesOtherVersionsAndGarbage) {
  RequestParser parser;
  EXPECT_EQ(parser.feed("GET / HTTP/2.0\r\nHost: h\r\n\r\n").status, ParseStatus::error);
  EXPECT_EQ(parser.error_status(), 505);
  RequestParser tls;
  EXPECT_EQ(tls.feed("\x16\x03\x01\x02").status, ParseStatus::error);
  EXPECT_EQ(tls.error_status(), 400);
  EXPECT_EQ(tls.feed("more").consumed, 0U) << "after an error nothing is taken";
}

TEST(HttpRequest, LimitsHeaderAndBody) {
  const Limits small{256, 10};
  const auto refused = [&](const std::string& text) {
    RequestParser parser{small};
    EXPECT_EQ(parser.feed(text).status, ParseStatus::error);
    return parser.error_status();
  };
  EXPECT_EQ(refused("GET / HTTP/1.1\r\nHost: h\r\nX: " + std::string(300, 'x') + "\r\n\r\n"), 431);
  EXPECT_EQ(refused("GET /" + std::string(300, 'x')), 431) << "before the line has ended";
  EXPECT_EQ(refused("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n"), 413) << "before the body has come";
  EXPECT_EQ(refused("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n6\r\nabcdef\r\n"),
            413);
  EXPECT_EQ(refused("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;" + std::string(300, 'x')), 431);

  RequestParser parser{small};
  EXPECT_EQ(parser.feed("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n").status, ParseStatus::error);
  EXPECT_EQ(parser.error().message, "HTTP: body is longer than 10 bytes");
  RequestParser fits{small};
  EXPECT_EQ(fits.feed("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456789").status,
            ParseStatus::complete);
}

TEST(HttpResponse, IsReadWholeHoweverItsBytesAreCut) {
  const std::string text =
      "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nETag: \"AAAAAAAAAAE=\"\r\n"
      "Content-Length: 7\r\n\r\n{\"a\":1}";
  ResponseParser parser;
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    parser.feed(text.substr(0, cut));
    const auto fed = parser.feed(text.substr(cut));
    ASSERT_EQ(fed.status, ParseStatus::complete) << cut;
    EXPECT_EQ(parser.status(), 200);
    EXPECT_EQ(parser.header("etag"), "\"AAAAAAAAAAE=\"");
    EXPECT_EQ(parser.body(), "{\"a\":1}");
    EXPECT_TRUE(parser.keep_alive());
    parser.next();
    EXPECT_TRUE(parser.at_message_start());
  }
}

TEST(HttpResponse, HasNoBodyWhenItsStatusOrRequestSaysSo) {
  const std::string_view next = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
  for (const std::string status : {"204 No Content", "304 Not Modified"}) {
    ResponseParser parser;
    const auto text = "HTTP/1.1 " + status + "\r\n\r\n";
    const auto fed = parser.feed(text + std::string{next});
    EXPECT_EQ(fed.status, ParseStatus::complete);
    EXPECT_EQ(fed.consumed, text.size());
  }
  ResponseParser parser;
  parser.next(true);
  const std::string head = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n";
  EXPECT_EQ(parser.feed(head + std::string{next}).consumed, head.size());
}

TEST(HttpResponse, SkipsInterimResponses) {
  ResponseParser parser;
  const std::string text =
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
  const auto fed = parser.feed(text);
  EXPECT_EQ(fed.status, ParseStatus::complete);
  EXPECT_EQ(fed.consumed, text.size());
  EXPECT_EQ(parser.status(), 204);
  ResponseParser upgrade;
  upgrade.feed("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81");
  EXPECT_EQ(upgrade.status(), 101);
}

TEST(HttpResponse, DropsTrailerFields) {
  ResponseParser parser;
  const auto fed = parser.feed(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nETag: x\r\nConnection: close\r\n\r\n");
  ASSERT_EQ(fed.status, ParseStatus::complete);
  EXPECT_EQ(parser.body(), "{}");
  EXPECT_EQ(parser.header("ETag"), std::nullopt);
  EXPECT_TRUE(parser.keep_alive());
}

TEST(HttpResponse, WithoutLengthEndsWithTheConnection) {
  ResponseParser parser;
  EXPECT_EQ(parser.feed("HTTP/1.1 200 OK\r\n\r\nsome").status, ParseStatus::need_more);
  EXPECT_EQ(parser.feed(" text").status, ParseStatus::need_more);
  EXPECT_EQ(parser.feed_eof(), ParseStatus::complete);
  EXPECT_EQ(parser.body(), "some text");
  EXPECT_FALSE(parser.keep_alive());
}

TEST(HttpResponse, IsAnErrorWhenTheConnectionEndsEarly) {
  ResponseParser nothing;
  EXPECT_EQ(nothing.feed_eof(), ParseStatus::error);
  EXPECT_EQ(nothing.error().message, "HTTP: connection closed before a message");
  for (const auto* text : {"HTTP/1.1 20", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
                           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"}) {
    ResponseParser parser;
    parser.feed(text);
    EXPECT_EQ(parser.feed_eof(), ParseStatus::error) << text;
    EXPECT_EQ(parser.error().message, "HTTP: connection closed inside a message");
  }
}

TEST(HttpWriting, IsReadBackAsItWasWritten) {
  const std::array headers{Header{"Authorization", "SharedAccessSignature sr=h"}, Header{"If-Match", "\"*\""}};
  std::string text;
  append_request(text, "PATCH", "/twins/d", "hub.example:8080", headers, "{}");
  EXPECT_EQ(text,
            "PATCH /twins/d HTTP/1.1\r\nHost: hub.example:8080\r\nAuthorization: SharedAccessSignature sr=h\r\n"
            "If-Match: \"*\"\r\nContent-Length: 2\r\n\r\n{}");
  RequestParser request;
  EXPECT_EQ(request.feed(text).consumed, text.size());
  EXPECT_EQ(request.header("Authorization"), "SharedAccessSignature sr=h");

  text.clear();
  append_response(text, 412, headers, "{}");
  ResponseParser response;
  EXPECT_EQ(response.feed(text).status, ParseStatus::complete);
  EXPECT_EQ(response.status(), 412);
  EXPECT_EQ(text.substr(0, text.find('\r')), "HTTP/1.1 412 Precondition Failed");
}

TEST(HttpWriting, GivesALengthWhereOneIsExpected) {
  const auto request = [](std::string_view method, std::string_view body) {
    std::string text;
    append_request(text, method, "/", "h", {}, body);
    return text.find("Content-Length") != std::string::npos;
  };
  EXPECT_FALSE(request("GET", ""));
  EXPECT_FALSE(request("DELETE", ""));
  EXPECT_TRUE(request("POST", ""));
  EXPECT_TRUE(request("DELETE", "x"));
  const auto response = [](int status) {
    std::string text;
    append_response(text, status, {});
    return text.find("Content-Length: 0") != std::string::npos;
  };
  EXPECT_TRUE(response(200));
  EXPECT_TRUE(response(404));
  EXPECT_FALSE(response(204));
  EXPECT_FALSE(response(304));
}

}  // namespace
}  // namespace twinstorm::http
