import { describe, expect, it } from "vitest";
import { bytes, clock, count, duration, foreign, percent, percentile, rate, significant } from "../src/format";

describe("numbers carry separators and three significant digits", () => {
  it("counts", () => expect(count(1234567)).toBe("1,234,567"));
  it.each([
    [0.41234, "0.412"],
    [48.25, "48.3"],
    [1530.4, "1,530"],
    [0, "0"],
    [999.6, "1,000"],
    [12345678, "12,345,678"],
  ])("%d is %s", (value, text) => expect(significant(value)).toBe(text));
  it("rates", () => expect([rate(1003.2), rate(0.333), rate(null)]).toEqual(["1,003/s", "0.333/s", "–"]));
  it("bytes", () => expect([bytes(612), bytes(222298112), bytes(null)]).toEqual(["612 B", "212 MiB", "–"]));
});

describe("durations change their unit where people do", () => {
  it.each([
    [0, "0 ms"],
    [0.000412, "412 us"],
    [0.0482, "48.2 ms"],
    [0.9994, "999 ms"],
    [0.9996, "1 s"],
    [75, "75 s"],
    [120, "2 min"],
    [125, "2 min 5 s"],
    [3700, "1 h 1 min"],
  ])("%d s is %s", (value, text) => expect(duration(value)).toBe(text));
  it("says nothing where there is nothing", () => expect([duration(null), duration(NaN)]).toEqual(["–", "–"]));
  it("clock", () => expect([7, 754, 3723, 2.5, 1.0035, 59.98].map(clock)).toEqual(["0:07", "12:34", "1:02:03", "0:02.5", "0:01", "1:00"]));
});

describe("shares", () => {
  it("never round up to everything or down to nothing", () => {
    expect(percent(0.9999)).toBe("99.990 %");
    expect(percent(0.9999999)).toBe("> 99.999 %");
    expect(percent(1)).toBe("100 %");
    expect(percent(0.000001)).toBe("< 0.001 %");
    expect(percent(0)).toBe("0 %");
  });
  it("name percentiles by their nines", () =>
    expect([0, 0.5, 0.9, 0.99, 0.999, 0.9999, 1].map(percentile)).toEqual(["0%", "50%", "90%", "99%", "99.9%", "99.99%", "100%"]));
});

describe("foreign text", () => {
  it("shows what is invisible or turns the writing direction", () =>
    expect(foreign("a\u202Eb\u0007c\nd")).toBe("a\\u{202E}b\\u{0007}c d"));
  it("is cut between letters, not inside one", () => {
    expect(foreign("😀".repeat(10), 3)).toBe("😀😀😀…");
    expect(foreign("x".repeat(10_000)).length).toBe(401);
  });
});
