import { describe, expect, it } from "vitest";
import { cumulative, extent, isolated, nines, spectrum, toCsv, wantsLog } from "../src/curve";
import type { Latency } from "../src/model";

const latency: Latency = {
  count: 1000, mean: 2, p50: 1, p90: 3, p95: 4, p99: 5, p999: null, max: 9,
  quantile: [0, 0.5, 0.9, 0.99, 1],
  value: [1, 1, 3, 5, 9],
};

describe("percentile spectrum", () => {
  it("gives each nine the same width and ends at the rank of the largest sample", () => {
    const [x, y] = spectrum(latency);
    expect(x.map((v) => Math.round(v))).toEqual([1, 2, 10, 100, 1000]);
    expect(y).toEqual([1, 1, 3, 5, 9]);
  });
  it("stays increasing when few samples end it early", () => {
    const [x] = spectrum({ ...latency, count: 3 });
    expect(x.every((v, i) => i === 0 || v > (x[i - 1] ?? 0))).toBe(true);
  });
  it("labels the places up to the last sample", () => expect(nines(5000)).toEqual([1, 2, 10, 100, 1000]));
});

describe("cumulative distribution", () => {
  it("has each value once, with the highest share", () => expect(cumulative(latency)).toEqual([[1, 3, 5, 9], [0.5, 0.9, 0.99, 1]]));
});

describe("series", () => {
  it("finds samples that stand alone", () => expect(isolated([1, null, 2, 3, null, 4])).toEqual([0, 5]));
  it("has no extent without samples", () => expect([extent([null, null]), extent([null, 2, 1])]).toEqual([null, [1, 2]]));
  it("wants a logarithmic axis only over more than two decades", () =>
    expect([wantsLog([[1, 50]]), wantsLog([[0.001, null], [2]]), wantsLog([[0, null]])]).toEqual([false, true, false]));
  it("becomes CSV with quoted titles and empty cells", () =>
    expect(toCsv("seconds", [1, 2], [{ label: 'p99, "late"', values: [null, 0.5] }])).toBe(
      'seconds,"p99, ""late"""\r\n1,\r\n2,0.5\r\n'));
});
