#!/usr/bin/env node
// A short run, and its histogram logs read by an HdrHistogram of somebody else: what that one counts and its percentiles
// must be those of summary.json.
//
// Environment: TWINSTORM_BINARY (the program to test), NODE_PATH (where the packages are, unless `npm ci` ran here).
'use strict';
const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { HistogramLogReader } = require('hdr-histogram-js');

const percentiles = { p50: 50, p90: 90, p95: 95, p99: 99, p999: 99.9 };

/** The histograms of a log by tag, those of several phases added up. Values are microseconds. */
function readLog(file) {
  const byTag = new Map();
  const reader = new HistogramLogReader(fs.readFileSync(file, 'utf8'));
  for (let each = reader.nextIntervalHistogram(); each !== null; each = reader.nextIntervalHistogram()) {
    if (byTag.has(each.tag)) {
      byTag.get(each.tag).add(each);
    } else {
      byTag.set(each.tag, each);
    }
  }
  return byTag;
}

/** `told`: a distribution of summary.json, seconds; null where there were too few samples for a percentile. */
function compare(name, histogram, told) {
  assert.ok(histogram, `${name} is in no log`);
  assert.strictEqual(histogram.totalCount, told.count, `${name}: count`);
  const largest = Math.round(told.max * 1e6);
  const width = (value) => Math.max(1, value / 1000); // of a bucket: three significant digits
  let compared = 0;
  for (const [key, percent] of Object.entries(percentiles)) {
    if (told[key] === null) continue;
    const theirs = histogram.getValueAtPercentile(percent);
    const ours = Math.round(told[key] * 1e6);
    // A percentile is the upper end of its bucket, and we never tell one above the largest value that was seen.
    const agrees = theirs === ours || (ours === largest && theirs >= ours && theirs - ours <= width(ours));
    assert.ok(agrees, `${name} ${key}: ${theirs} us in the log, ${ours} us in summary.json`);
    ++compared;
  }
  assert.ok(compared >= 3, `${name}: only ${compared} percentiles to compare`);
  assert.ok(Math.abs(histogram.maxValue - largest) <= width(largest), `${name} max: ${histogram.maxValue}, ${largest}`);
  console.log(`${name}: ${told.count} samples, ${compared} percentiles and the largest value agree`);
}

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'twinstorm-logs-'));
try {
  const source = path.join(__dirname, '..', '..', '..');
  const run = spawnSync(process.env.TWINSTORM_BINARY, [
    'run', path.join(source, 'scenarios', 'smoke.yaml'), '--out', path.join(folder, 'run'), '--quiet',
    '--set', 'phases[steady].duration=6s', '--set', 'phases[steady].load={rollout: 200/s, thermostats.report: 200/s}',
  ], { encoding: 'utf8', timeout: 60000 });
  // 13: the machine was busy. The logs must be right all the same.
  assert.ok([0, 13].includes(run.status), `exit code ${run.status}\n${run.stdout}${run.stderr}`);
  const summary = JSON.parse(fs.readFileSync(path.join(folder, 'run', 'summary.json'), 'utf8'));
  const log = (name) => readLog(path.join(folder, 'run', name));

  const operations = log('operations.hlog');
  for (const [tag, kind] of [['rollout', 'patchDesired'], ['thermostats.report', 'report']]) {
    for (const which of ['intended', 'service']) {
      compare(`${tag}.${which}`, operations.get(`${tag}.${which}`), summary.operations[kind][which]);
    }
  }
  const convergence = log('convergence.hlog');
  for (const leg of ['total', 'system', 'patch', 'delivery', 'apply', 'acknowledge']) {
    compare(`convergence.${leg}`, convergence.get(`convergence.${leg}`), summary.convergence[leg]);
  }
  compare('scheduleLag', log('generator.hlog').get('scheduleLag'), summary.generator.scheduleLag);
} finally {
  fs.rmSync(folder, { recursive: true, force: true });
}
