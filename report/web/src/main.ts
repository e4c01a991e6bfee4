import "uplot/dist/uPlot.min.css";
import "./style.css";
import { canaryWarning } from "./canary";
import { redrawAll, resetZoom, setTimeline } from "./chart";
import { h } from "./dom";
import { duration, foreign } from "./format";
import type { PageData } from "./model";
import { banner, sections, tiles } from "./sections";

function element(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return found;
}

type Theme = "auto" | "light" | "dark";
const kThemes: Theme[] = ["auto", "light", "dark"];

function storedTheme(): Theme {
  try {
    return kThemes.find((t) => t === localStorage.getItem("twinstorm-theme")) ?? "auto";
  } catch {
    return "auto";  // storage is off for files in some browsers
  }
}

function applyTheme(theme: Theme): void {
  if (theme === "auto") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
  try {
    localStorage.setItem("twinstorm-theme", theme);
  } catch {
    // Then the choice lasts as long as the page.
  }
}

function themeButton(): HTMLElement {
  let theme = storedTheme();
  applyTheme(theme);
  const button = h("button", { type: "button", class: "theme" });
  const label = () => {
    button.textContent = `Theme: ${theme}`;
  };
  label();
  button.addEventListener("click", () => {
    theme = kThemes[(kThemes.indexOf(theme) + 1) % kThemes.length] ?? "auto";
    applyTheme(theme);
    label();
    redrawAll();
  });
  return button;
}

function show(data: PageData): void {
  const { run } = data;
  document.title = `${data.verdict.status}: ${foreign(run.scenario, 80)} · twinstorm`;
  setTimeline(data.phases, data.marks, Math.max(data.time.at(-1) ?? 0, ...data.phases.map((p) => p.end), 1));

  element("top").append(
    h("div", { class: "name" },
      h("h1", {}, foreign(run.scenario, 120)),
      h("p", {}, `${foreign(run.description, 300)}`),
      h("p", { class: "facts" },
        h("span", {}, "started ", h("time", { datetime: run.startedAt }, run.startedAt.replace("T", " ").replace(/(\.\d+)?Z$/, " UTC"))),
        h("span", {}, `lasted ${duration(run.durationSeconds)}`),
        h("span", {}, `seed ${foreign(run.seed, 40)}`),
        h("span", {}, `run ${foreign(run.id, 80)}`),
        h("span", {}, `twinstorm ${foreign(run.version, 40)}`))),
    themeButton(),
  );

  const list = sections(data);
  const links = list.map((s) => h("a", { href: `#${s.id}` }, s.title));
  element("contents").append(h("ol", {}, links.map((a) => h("li", {}, a))));
  const parts = list.map((s) => h("section", { id: s.id, class: "part", "aria-labelledby": `${s.id}-title` }, h("h2", { id: `${s.id}-title` }, s.title), s.body));
  const warning = canaryWarning(data.canary);
  element("content").append(banner(data), ...(warning instanceof Node ? [warning] : []), tiles(data), ...parts);

  // Marks the section being read in the list of contents.
  const seen = new Set<Element>();
  const observer = new IntersectionObserver((entries) => {
    for (const e of entries) e.isIntersecting ? seen.add(e.target) : seen.delete(e.target);
    const first = parts.find((p) => seen.has(p));
    links.forEach((a, i) => (parts[i] === first ? a.setAttribute("aria-current", "true") : a.removeAttribute("aria-current")));
  }, { rootMargin: "-10% 0px -60% 0px" });
  for (const p of parts) observer.observe(p);

  document.body.append(h("button", { type: "button", class: "reset", click: resetZoom }, "Show the whole run"));

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
  // Paper is light whatever the screen is.
  let before: string | undefined;
  addEventListener("beforeprint", () => {
    before = document.documentElement.dataset["theme"];
    document.documentElement.dataset["theme"] = "light";
    redrawAll();
  });
  addEventListener("afterprint", () => {
    if (before === undefined) delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = before;
    redrawAll();
  });
}

function start(): void {
  const text = element("run-data").textContent ?? "";
  try {
    show(JSON.parse(text) as PageData);
    document.documentElement.dataset["ready"] = "true";
  } catch (error) {
    element("content").replaceChildren(
      h("p", { class: "empty" }, `This report could not be drawn: ${String(error)}. The figures are in summary.json beside it.`),
    );
    throw error;
  }
}

start();
