// Opens reports in headless Chromium and checks what only a browser can tell: that the page draws itself without an
// error and without loading anything, says the verdict of its data, fits narrow and wide screens, and can be operated
// from the keyboard.
//
//   node check_report.mjs <chromium> <unit_report>      reports of the tests' fixed runs
//   node check_report.mjs <chromium> <report.html>...   any reports
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [chromium, ...inputs] = process.argv.slice(2);
if (chromium === undefined || inputs.length === 0) {
  console.error("usage: check_report.mjs <chromium> <unit_report | report.html...>");
  process.exit(2);
}

/** Runs inside the page; tells what it found to the window around it. */
function probe() {
  const problems = [];
  addEventListener("error", (e) => problems.push(`error: ${e.message}`));
  addEventListener("securitypolicyviolation", (e) => problems.push(`blocked: ${e.violatedDirective} ${e.blockedURI}`));
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const expect = (what, holds) => holds || problems.push(`does not hold: ${what}`);
  addEventListener("load", async () => {
    try {
      await wait(300);
      const data = JSON.parse(document.getElementById("run-data").textContent);
      expect("the page is drawn", document.documentElement.dataset.ready === "true");
      const verdict = document.getElementById("verdict")?.textContent.toLowerCase() ?? "";
      expect(`the banner says ${data.verdict.status}`, verdict.startsWith(data.verdict.status));
      expect("the banner gives the exit code", verdict.includes(`exit code ${data.verdict.exitCode}`));
      expect("there is no sideways scrolling", document.documentElement.scrollWidth <= innerWidth);
      expect("nothing was loaded", performance.getEntriesByType("resource").length === 0);

      const plots = [...document.querySelectorAll(".plot")];
      const drawn = plots.filter((p) => {
        const canvas = p.querySelector("canvas");
        if (canvas === null || canvas.width === 0) return false;
        return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((v) => v !== 0);
      });
      expect(`all ${plots.length} charts are drawn (are: ${drawn.length})`, drawn.length === plots.length);
      if (data.time.length > 1) expect("there are charts", plots.length > 0);

      const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
      expect("ids are unique", new Set(ids).size === ids.length);
      for (const link of document.querySelectorAll('a[href^="#"]')) {
        expect(`link ${link.hash} arrives`, document.getElementById(decodeURIComponent(link.hash.slice(1))) !== null);
      }
      const levels = [...document.querySelectorAll("h1, h2, h3, h4")].map((e) => Number(e.tagName[1]));
      expect("headings skip no level downwards but in figures", levels[0] === 1 && levels.filter((l) => l === 1).length === 1);
      for (const button of document.querySelectorAll("button")) {
        expect("buttons have a name", (button.getAttribute("aria-label") ?? button.textContent).trim() !== "");
      }
      expect("text of the record stays text", document.querySelectorAll("script").length === window.scripts);

      const plot = plots[0];
      if (plot !== undefined) {
        const press = (key) => plot.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
        const figure = plot.closest("figure");
        plot.focus();
        press("End");
        await wait(50);
        expect("the keyboard reads values", figure.querySelector(".at").textContent !== "");
        expect("and says them", figure.querySelector("[aria-live]").textContent !== "");
        press("+");
        await wait(50);
        expect("+ zooms", document.documentElement.classList.contains("zoomed"));
        press("Escape");
        await wait(50);
        expect("Escape shows everything", !document.documentElement.classList.contains("zoomed"));
        const entry = figure.querySelector(".legend button");
        entry.click();
        expect("the legend hides a line", entry.getAttribute("aria-pressed") === "false");
      }
      const page = () => getComputedStyle(document.body).backgroundColor;
      const seen = new Set([page()]);
      for (let i = 0; i < 3; i += 1) {
        document.querySelector("button.theme").click();
        await wait(50);
        seen.add(page());
      }
      expect("the theme can be switched", seen.size === 2);
    } catch (error) {
      problems.push(`the check itself failed: ${error.stack}`);
    }
    parent.postMessage(problems, "*");
  });
}

const folder = mkdtempSync(join(tmpdir(), "twinstorm-report-"));
let failures = 0;
try {
  if (inputs.length === 1 && !inputs[0].endsWith(".html")) {
    execFileSync(inputs[0], ["--gtest_filter=Html.WrittenOnRequest"], {
      env: { ...process.env, TWINSTORM_WRITE_REPORTS: folder }, stdio: "ignore",
    });
    inputs.splice(0, 1, ...readdirSync(folder).filter((f) => f.endsWith(".html")).map((f) => join(folder, f)));
  }
  for (const input of inputs) {
    const html = readFileSync(input, "utf8");
    // Scripts of the page: data and program; and the probe.
    const inner = join(folder, "inner.htm");
    writeFileSync(inner, html.replace("<head>", () => `<head><script>window.scripts = 3; (${probe})();</script>`));
    for (const width of [360, 768, 1440]) {
      const outer = join(folder, "outer.htm");
      writeFileSync(outer, `<!doctype html><script>addEventListener("message", (e) => {
        document.body.dataset.problems = encodeURIComponent(JSON.stringify(e.data)); });</script>
        <body><iframe src="inner.htm" style="width:${width}px;height:900px;border:0"></iframe>`);
      const dom = execFileSync(chromium, ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", `--user-data-dir=${join(folder, "profile")}`,
        "--window-size=1600,1000", "--virtual-time-budget=15000", "--dump-dom", `file://${outer}`],
        { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"], timeout: 90_000, maxBuffer: 64 << 20 });
      const found = /data-problems="([^"]*)"/.exec(dom);
      const problems = found === null ? ["the page did not answer"] : JSON.parse(decodeURIComponent(found[1]));
      const name = `${input.split("/").at(-1)} at ${width} px`;
      console.log(problems.length === 0 ? `ok      ${name}` : `FAILED  ${name}\n        ${problems.join("\n        ")}`);
      failures += problems.length;
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}
process.exit(failures === 0 ? 0 : 1);
