// Every case of tests/vectors/query-cases.json and query-cases-more.json through the service SDK's Query, in pages of 1,
// 3 and 100 rows. The hub has imported the fixture (run.js).
'use strict';
const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');

const { Registry } = require('azure-iothub');

const hub = require('./lib/hub.js');

const registry = Registry.fromConnectionString(hub.ready.ownerConnectionString);
const vectors = path.join(__dirname, '..', '..', 'vectors');
const read = (name) => JSON.parse(fs.readFileSync(path.join(vectors, name), 'utf8'));
const fixture = read('query-cases.json');
const shared = fixture.cases;
// The SDK itself refuses an empty text.
const more = read('query-cases-more.json').cases.filter(({ query }) => query !== '');

const deviceOf = (row) => row.deviceId;
const moduleOf = (row) => `${row.deviceId}/${row.moduleId}`;
const jobOf = (row) => `${row.jobId}/${row.deviceId}`;
const sorted = (values) => [...values].sort();
const texts = (rows) => sorted(rows.map((row) => JSON.stringify(ordered(row))));

/** The same value with the members of objects in order, to compare as text. */
function ordered(value) {
  if (Array.isArray(value)) return value.map(ordered);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, ordered(value[key])]));
}

/** All pages as the SDK reads them: `{rows, pages, itemTypes}`. */
async function readAll(sql, pageSize) {
  const query = registry.createQuery(sql, pageSize);
  const all = { rows: [], pages: [], itemTypes: new Set() };
  do {
    const { result, response } = await new Promise((resolve, reject) => {
      query.next((error, rows, answer) => (error ? reject(error) : resolve({ result: rows, response: answer })));
    });
    all.rows.push(...result);
    all.pages.push(result.length);
    all.itemTypes.add(response.headers['x-ms-item-type']);
  } while (query.hasMoreResults);
  return all;
}

function checkStored(rows, ids, stored, idOf) {
  assert.deepEqual(sorted(rows.map(idOf)), sorted(ids));
  for (const row of rows) assert.deepEqual(row, stored.find((each) => idOf(each) === idOf(row)));
}

function checkRows(expect, rows) {
  if (expect.ids) checkStored(rows, expect.ids, fixture.twins, deviceOf);
  if (expect.moduleIds) checkStored(rows, expect.moduleIds, fixture.modules, moduleOf);
  if (expect.jobRows) checkStored(rows, expect.jobRows, fixture.deviceJobs, jobOf);
  if (expect.rows) assert.deepEqual(texts(rows), texts(expect.rows));
  if (expect.rowCount !== undefined) {
    assert.equal(rows.length, expect.rowCount);
    const rest = texts(expect.rowsSubsetOf);
    for (const row of texts(rows)) {
      const at = rest.indexOf(row);
      assert.notEqual(at, -1, row);
      rest.splice(at, 1);
    }
  }
  if (expect.paging) assert.equal(rows.length, expect.paging.totalRows);
}

async function check({ query, expect }, pageSize) {
  if (expect.status !== 200) {
    await assert.rejects(readAll(query, pageSize), (error) => {
      const { statusCode, headers } = error.response;
      assert.ok((expect.statusIn ?? [expect.status]).includes(statusCode), `${statusCode}`);
      if (expect.errorCodeHeader) assert.equal(headers['iothub-errorcode'], expect.errorCodeHeader);
      return true;
    });
    return;
  }
  const { rows, pages, itemTypes } = await readAll(query, pageSize);
  assert.deepEqual([...itemTypes].map((type) => type.toLowerCase()), [expect.itemType.toLowerCase()]);
  for (const length of pages) assert.ok(length <= pageSize, `${length} rows in a page of ${pageSize}`);
  assert.equal(pages.length, Math.max(1, Math.ceil(rows.length / pageSize)), 'no page more than needed');
  checkRows(expect, rows);
}

for (const pageSize of [1, 3, 100]) {
  test(`the ${shared.length} shared cases in pages of ${pageSize}`, async (context) => {
    for (const each of shared) await context.test(each.id, () => check(each, pageSize));
  });
}

test('the shared cases that name a page size, in pages of it', async () => {
  for (const each of shared.filter(({ pageSize }) => pageSize)) await check(each, each.pageSize);
});

test(`${more.length} further cases in pages of 100`, async () => {
  for (const each of more) {
    await check(each, 100).catch((error) => {
      error.message = `${each.id} ${each.query.slice(0, 200)}: ${error.message}`;
      throw error;
    });
  }
});

test('without a page size everything comes in one page, and rows can be read as twins', async () => {
  const { pages } = await readAll('SELECT * FROM devices');
  assert.deepEqual(pages, [8]);
  const { result } = await registry.createQuery('SELECT * FROM devices WHERE tags.ring = 2').nextAsTwin();
  assert.deepEqual(sorted(result.map(deviceOf)), ['gw-01', 'therm-02']);
});

test('a page size of 10001 is refused', async () => {
  await assert.rejects(readAll('SELECT * FROM devices', 10001), { name: 'ArgumentError' });
});

test('a token goes on where it stands, and is refused when changed or with another query', async () => {
  const first = registry.createQuery('SELECT deviceId FROM devices', 3);
  await first.next();
  const token = first.continuationToken;
  assert.doesNotMatch(Buffer.from(token, 'base64url').toString('latin1'), /cam|gw|therm|pump/);
  const again = registry.createQuery('SELECT deviceId FROM devices', 100);
  const { result } = await again.next(token);
  assert.equal(result.length, 5);
  const changed = (token[20] === 'A' ? 'B' : 'A');
  for (const [sql, bad] of [
    ['SELECT deviceId FROM devices', token.slice(0, 20) + changed + token.slice(21)],
    ['SELECT deviceId FROM devices', token.slice(0, -1)],
    ['SELECT deviceId FROM devices', 'nonsense'],
    ['SELECT deviceId  FROM devices', token],
    ['SELECT * FROM devices', token],
  ]) {
    await assert.rejects(registry.createQuery(sql, 3).next(bad), { name: 'ArgumentError' });
  }
});
