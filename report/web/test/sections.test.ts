import { describe, expect, it } from "vitest";
import { definitions } from "../src/definitions";
import sectionsText from "../src/sections.ts?raw";
import serviceText from "../src/service.ts?raw";

describe("definitions", () => {
  it("have unique places, and every link to one arrives", () => {
    const ids = definitions.map((d) => d.id);
    expect(new Set(ids).size).toBe(ids.length);
    for (const text of [sectionsText, serviceText]) {
      const links = [...text.matchAll(/#def-([a-z0-9-]+)"/g)].map((m) => m[1]);
      expect(links.length).toBeGreaterThan(2);
      for (const link of links) expect(ids).toContain(link);
    }
    // Outcome rows name their definition in the third column.
    for (const id of ["applied", "superseded", "lost", "unconverged", "failed", "backlog"]) expect(ids).toContain(id);
  });
});
