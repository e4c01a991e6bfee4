import { expect, test } from "vitest";
import { byRate } from "../src/capacity";

const probe = (askedPerSecond: number, delivered: number) => ({
  run: "run-01", factor: 1, askedPerSecond, deliveredPerSecond: delivered, verdict: "holds" as const, reasons: [],
  latencies: {}, busyShare: null,
});

test("runs at one rate become one point, in the order of the rates", () => {
  const [x, y] = byRate([probe(200, 190), probe(100, 100), probe(200, 150), probe(200, 199)], (p) => p.deliveredPerSecond);
  expect(x).toEqual([100, 200]);
  expect(y).toEqual([100, 190]);
});

test("a rate without a figure leaves a gap", () => {
  const [x, y] = byRate([probe(100, 100), probe(200, 190)], (p) => (p.askedPerSecond === 100 ? null : 5));
  expect(x).toEqual([100, 200]);
  expect(y).toEqual([null, 5]);
});
