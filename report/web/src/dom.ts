/** Elements in one expression. Strings become text nodes, so nothing of a record is ever parsed as HTML. */
export type Child = Node | string | null | undefined | false | Child[];
type Attributes = Record<string, string | number | boolean | undefined | ((event: Event) => void)>;

export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

function append(element: HTMLElement, children: Child[]): void {
  for (const child of children) {
    if (Array.isArray(child)) append(element, child);
    else if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}

export interface Column<Row> {
  title: string;
  /** Right-aligned, digits of equal width. */
  number?: boolean;
  cell: (row: Row) => Child;
}

/** A table whose first column names the row. Scrolls sideways in its own box when the screen is narrow. */
export function table<Row>(caption: string, columns: Column<Row>[], rows: Row[]): HTMLElement {
  return h(
    "div",
    { class: "scroll", role: "region", "aria-label": caption, tabindex: 0 },
    h(
      "table",
      {},
      h("caption", {}, caption),
      h("thead", {}, h("tr", {}, columns.map((c) => h("th", { scope: "col", class: c.number && "number" }, c.title)))),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            {},
            columns.map((c, i) =>
              i === 0 ? h("th", { scope: "row" }, c.cell(row)) : h("td", { class: c.number && "number" }, c.cell(row)),
            ),
          ),
        ),
      ),
    ),
  );
}

export function empty(text: string): HTMLElement {
  return h("p", { class: "empty" }, text);
}

export function pairs(entries: [string, Child][]): HTMLElement {
  return h("dl", { class: "pairs" }, entries.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** Status as a word with a shape, so that it reads without colour. */
export function badge(status: string): HTMLElement {
  const good = ["passed", "held", "balanced", "equal", "agree"];
  const bad = ["failed", "violated", "invalid", "aborted", "differs", "disagree", "disagree beyond sampling error"];
  const kind = good.includes(status) ? "good" : bad.includes(status) ? "bad" : "unsure";
  const shape = kind === "good" ? "✓" : kind === "bad" ? "✕" : "?";
  const word = status === "notChecked" ? "not checked" : status === "invalid" ? "INVALID" : status;
  return h("span", { class: `badge ${kind}` }, h("span", { "aria-hidden": "true" }, shape), ` ${word}`);
}
