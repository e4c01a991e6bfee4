import "uplot/dist/uPlot.min.css";
import "./style.css";
import { canaryWarning } from "./canary";
import { type Capacity, capacityBanner, capacityParts, capacityTitle } from "./capacity";
import { redrawAll, resetZoom, setTimeline } from "./chart";
import { h } from "./dom";
import { duration, foreign } from "./format";
import type { PageData } from "./model";
import { banner, type Section, sections, tiles } from "./sections";

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

interface Head {
  title: string;
  name: string;
  description: string;
  startedAt: string;
  durationSeconds: number;
  facts: string[];
}

function show(data: PageData): void {
  const { run } = data;
  setTimeline(data.phases, data.marks, Math.max(data.time.at(-1) ?? 0, ...data.phases.map((p) => p.end), 1));
  const warning = canaryWarning(data.canary);
  build(
    { ...run, title: `${data.verdict.status}: ${foreign(run.scenario, 80)}`, name: run.scenario,
      facts: [`seed ${foreign(run.seed, 40)}`, `run ${foreign(run.id, 80)}`, `twinstorm ${foreign(run.version, 40)}`] },
    [banner(data), ...(warning instanceof Node ? [warning] : []), tiles(data)],
    sections(data));
}

function showCapacity(capacity: Capacity): void {
  const { run } = capacity;
  build(
    { ...run, title: `${capacityTitle(capacity)}: ${foreign(run.scenario, 80)}`, name: run.scenario,
      facts: [`seed ${run.seed}`, `search ${foreign(run.id, 80)}`, `twinstorm ${foreign(run.version, 40)}`] },
    [capacityBanner(capacity)],
    capacityParts(capacity));
}

/** The frame that all pages share: who, contents, what comes first, the parts. */
function build(head: Head, first: Node[], list: Section[]): void {
  document.title = `${head.title} · twinstorm`;
  element("top").append(
    h("div", { class: "name" },
      h("h1", {}, foreign(head.name, 120)),
      h("p", {}, `${foreign(head.description, 300)}`),
      h("p", { class: "facts" },
        h("span", {}, "started ", h("time", { datetime: head.startedAt }, head.startedAt.replace("T", " ").replace(/(\.\d+)?Z$/, " UTC"))),
        h("span", {}, `lasted ${duration(head.durationSeconds)}`),
        head.facts.map((fact) => h("span", {}, fact)))),
    themeButton(),
  );

  const links = list.map((s) => h("a", { href: `#${s.id}` }, s.title));
  element("contents").append(h("ol", {}, links.map((a) => h("li", {}, a))));
  const parts = list.map((s) => h("section", { id: s.id, class: "part", "aria-labelledby": `${s.id}-title` }, h("h2", { id: `${s.id}-title` }, s.title), s.body));
  element("content").append(...first, ...parts);

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
    const data = JSON.parse(text) as PageData | { capacity: Capacity };
    if ("capacity" in data) showCapacity(data.capacity);
    else show(data);
    document.documentElement.dataset["ready"] = "true";
  } catch (error) {
    element("content").replaceChildren(
      h("p", { class: "empty" }, `This report could not be drawn: ${String(error)}. The figures are in summary.json beside it.`),
    );
    throw error;
  }
}

start();
