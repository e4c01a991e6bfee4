// Scheduled jobs: the service SDK's JobClient, and its Registry for the rows of devices.
'use strict';
const assert = require('node:assert/strict');
const { randomUUID } = require('node:crypto');
const { test } = require('node:test');

const { JobClient, Registry } = require('azure-iothub');

const hub = require('./lib/hub.js');
const { openClient, updateReported, Inbox, eventually } = require('./lib/clients.js');

const jobs = JobClient.fromConnectionString(hub.ready.serviceConnectionString);
const registry = Registry.fromConnectionString(hub.ready.ownerConnectionString);

/** The job once `status` is reached. */
const reaching = (jobId, status) => eventually(async () => {
  const { jobStatus } = await jobs.getJob(jobId);
  return jobStatus.status === status && jobStatus;
}, `job ${jobId} to be ${status}`);

/** All rows of a query, page by page in the callback form. */
async function rows(text, pageSize) {
  const query = registry.createQuery(text, pageSize);
  const all = [];
  while (query.hasMoreResults) {
    all.push(...await new Promise((resolve, reject) => {
      query.next((error, page) => (error ? reject(error) : resolve(page)));
    }));
  }
  return all;
}

/** All jobs that createQuery gives. */
async function listed(type, status, pageSize) {
  const query = jobs.createQuery(type, status, pageSize);
  const all = [];
  while (query.hasMoreResults) {
    all.push(...await new Promise((resolve, reject) => {
      query.next((error, page, response) => {
        if (error) return reject(error);
        assert.equal(response.headers['x-ms-item-type'], 'JobResponse');
        assert.ok(!pageSize || page.length <= pageSize);
        return resolve(page);
      });
    }));
  }
  return all;
}

const fails = (status, name, text) => (error) => {
  assert.equal(error.response.statusCode, status);
  assert.equal(error.response.headers['iothub-errorcode'], name);
  if (text) assert.match(error.responseBody, text);
  return true;
};

test('scheduleTwinUpdate: every selected twin is patched, the device is told', async (t) => {
  const device = await hub.createDevice();
  const other = await hub.createDevice();
  const left = await hub.createDevice();
  const client = await openClient(t, device);
  const twin = await client.getTwin();
  const deltas = new Inbox();
  twin.on('properties.desired', (delta) => deltas.push(delta));
  await deltas.next('the state at the start');
  await updateReported(twin, {});

  const jobId = randomUUID();
  const patch = { etag: '*', tags: { ring: 2 }, properties: { desired: { speed: 7 } } };
  const created = await jobs.scheduleTwinUpdate(
    jobId, `deviceId IN ['${device.id}', '${other.id}']`, patch, new Date(), 300);
  assert.deepEqual(created.jobStatus, { jobId, type: 'scheduleUpdateTwin', status: 'queued' });

  const done = await reaching(jobId, 'completed');
  assert.deepEqual(done.deviceJobStatistics,
    { deviceCount: 2, failedCount: 0, succeededCount: 2, runningCount: 0, pendingCount: 0 });
  assert.equal(done.maxExecutionTimeInSeconds, 300);
  assert.deepEqual(done.updateTwin, patch);
  assert.ok(Date.parse(done.createdTime) <= Date.parse(done.endTime));
  assert.ok(Date.parse(done.startTime) > 0);

  const delta = await deltas.next('the notification');
  assert.equal(delta.speed, 7);
  for (const { id } of [device, other]) {
    const { responseBody } = await registry.getTwin(id);
    assert.deepEqual(responseBody.tags, { ring: 2 });
    assert.equal(responseBody.properties.desired.speed, 7);
    assert.equal(responseBody.properties.desired.$version, 2);
  }
  assert.deepEqual((await registry.getTwin(left.id)).responseBody.tags, {});
});

test('scheduleDeviceMethod: answers and offline devices in the rows of devices.jobs', async (t) => {
  const device = await hub.createDevice();
  const offline = await hub.createDevice();
  const client = await openClient(t, device);
  const twin = await client.getTwin();
  const requests = new Inbox();
  client.onDeviceMethod('reboot', (request, response) => {
    requests.push(request.payload);
    response.send(207, { rebooted: true }).catch(() => {});
  });
  await updateReported(twin, {});

  const jobId = randomUUID();
  const call = { methodName: 'reboot', payload: { delay: 5 }, responseTimeoutInSeconds: 30 };
  const created = await jobs.scheduleDeviceMethod(
    jobId, `deviceId IN ['${device.id}', '${offline.id}']`, call, new Date(), 300);
  assert.deepEqual(created.jobStatus, { jobId, type: 'scheduleDeviceMethod', status: 'queued' });
  assert.deepEqual(await requests.next('the method'), { delay: 5 });

  const done = await reaching(jobId, 'completed');
  assert.deepEqual(done.deviceJobStatistics,
    { deviceCount: 2, failedCount: 1, succeededCount: 1, runningCount: 0, pendingCount: 0 });
  assert.deepEqual(done.cloudToDeviceMethod, call);

  const found = await rows(`SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '${jobId}'`, 1);
  assert.equal(found.length, 2);
  const ok = found.find((row) => row.deviceId === device.id);
  assert.equal(ok.jobType, 'scheduleDeviceMethod');
  assert.equal(ok.status, 'completed');
  assert.deepEqual(ok.outcome, { deviceMethodResponse: { status: 207, payload: { rebooted: true } } });
  for (const time of ['startTimeUtc', 'endTimeUtc', 'createdDateTimeUtc', 'lastUpdatedDateTimeUtc']) {
    assert.ok(Date.parse(ok[time]) > 0, time);
  }
  const failed = found.find((row) => row.deviceId === offline.id);
  assert.equal(failed.status, 'failed');
  assert.equal(failed.error.code, '404103');
  assert.equal((await rows(`SELECT * FROM devices.jobs WHERE devices.jobs.deviceId = '${offline.id}'`)).length, 1);
});

test('the SDK works in its callback form, without times', (t, done) => {
  hub.createDevice().then((device) => {
    const jobId = randomUUID();
    jobs.scheduleTwinUpdate(jobId, `deviceId = '${device.id}'`, { etag: '*', tags: { a: 1 } }, (error, job) => {
      assert.ifError(error);
      assert.equal(job.jobId, jobId);
      reaching(jobId, 'completed').then((found) => {
        assert.equal(found.maxExecutionTimeInSeconds, 3600);
        done();
      }, done);
    });
  }, done);
});

test('cancelJob: scheduled jobs only', async () => {
  const jobId = randomUUID();
  const inAnHour = new Date(Date.now() + 3600 * 1000);
  await jobs.scheduleTwinUpdate(jobId, '*', { etag: '*', tags: { never: 1 } }, inAnHour, 60);
  assert.equal((await jobs.getJob(jobId)).jobStatus.status, 'scheduled');
  const { jobStatus } = await jobs.cancelJob(jobId);
  assert.equal(jobStatus.jobId, jobId);
  assert.equal(jobStatus.status, 'cancelled');
  assert.equal((await jobs.getJob(jobId)).jobStatus.status, 'cancelled');
  await assert.rejects(jobs.cancelJob(jobId), fails(405, 'OperationNotAllowedInCurrentState'));
  await assert.rejects(jobs.cancelJob(randomUUID()), fails(404, 'JobNotFound'));
});

test('createQuery: by type and status, in pages', async () => {
  const device = await hub.createDevice();
  const inAnHour = new Date(Date.now() + 3600 * 1000);
  const mine = [];
  for (let i = 0; i < 3; i += 1) {
    mine.push(randomUUID());
    await jobs.scheduleTwinUpdate(mine[i], `deviceId = '${device.id}'`, { etag: '*', tags: { i } }, new Date(), 60);
    await reaching(mine[i], 'completed');
  }
  const later = randomUUID();
  await jobs.scheduleDeviceMethod(later, '*', { methodName: 'm' }, inAnHour, 60);
  const ids = (found) => found.map((job) => job.jobId);
  for (const pageSize of [1, 2, 100, undefined]) {
    const all = ids(await listed(undefined, undefined, pageSize));
    assert.equal(new Set(all).size, all.length);
    for (const id of [...mine, later]) assert.ok(all.includes(id));
  }
  assert.ok(ids(await listed('scheduleDeviceMethod', 'scheduled', 1)).includes(later));
  const completed = await listed('scheduleUpdateTwin', 'completed', 2);
  for (const id of mine) assert.ok(ids(completed).includes(id));
  assert.ok(completed.every((job) => job.type === 'scheduleUpdateTwin' && job.status === 'completed'));
  await jobs.cancelJob(later);
});

test('what the service refuses, and what it takes', async () => {
  const etag = '*';
  const now = () => new Date();
  const update = (jobId, condition, patch, start = now()) => jobs.scheduleTwinUpdate(jobId, condition, patch, start, 60);
  const jobId = randomUUID();
  await update(jobId, "deviceId = 'nobody'", { etag, tags: { a: 1 } });
  await assert.rejects(update(jobId, '*', { etag, tags: { a: 1 } }), fails(409, 'JobAlreadyExists'));
  await assert.rejects(update('With_Capitals', '*', { etag, tags: { a: 1 } }), fails(400, 'ArgumentInvalid'));
  await assert.rejects(update(randomUUID(), '*', { tags: { a: 1 } }), fails(400, 'ArgumentInvalid'));
  await assert.rejects(update(randomUUID(), '*', { etag: 'AAAAAAAAAAE=', tags: {} }), fails(400, 'ArgumentInvalid'));
  await assert.rejects(update(randomUUID(), '*', { etag, tags: { a: 1 } }, new Date(Date.now() + 169 * 3600e3)),
    fails(400, 'ArgumentInvalid', /168 hours/));
  const nobody = await reaching(jobId, 'completed');
  assert.equal(nobody.deviceJobStatistics.deviceCount, 0);

  const bad = randomUUID();
  await update(bad, 'this is = no condition', { etag, tags: { a: 1 } });
  assert.ok((await reaching(bad, 'failed')).failureReason);

  const unknown = (await jobs.getJob('never-created')).jobStatus;
  assert.equal(unknown.status, 'unknown');
  assert.equal(unknown.type, 'unknown');
});

test('connection strings and ready-made tokens open the same door', async () => {
  const { ownerConnectionString } = hub.ready;
  const answered = await JobClient.fromConnectionString(ownerConnectionString).getJob('any');
  assert.equal(answered.jobStatus.status, 'unknown');
  const token = JobClient.fromSharedAccessSignature(hub.serviceToken());
  assert.equal((await token.getJob('any')).jobStatus.status, 'unknown');
});
