// The stock client over https and wss, with a certificate by an authority that NODE_EXTRA_CA_CERTS names. What is done is
// in support/tls_client.mjs.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build, failure, VARIANTS } from './support/client.mjs';
import { freePort, Testhub } from './support/testhub.mjs';

const CASES = ['calls are answered', 'a broadcast reaches everybody', 'large messages from the server arrive whole', 'streams flow both ways'];
const LIMIT_MS = 120_000;

const folder = await mkdtemp(join(tmpdir(), 'fanfare-tls-'));
const caFile = join(folder, 'ca.pem');
const port = await freePort();
const testhub = await Testhub.spawn(undefined, 2, { port, caFile });
const url = `https://localhost:${port}`;
after(async () => {
  const ended = await testhub.stop();
  await rm(folder, { recursive: true });
  assert.deepEqual(ended, { code: 0, signal: null });
});

/** What support/tls_client.mjs prints. */
async function ask() {
  const program = fileURLToPath(new URL('support/tls_client.mjs', import.meta.url));
  const env = { ...process.env, NODE_EXTRA_CA_CERTS: caFile };
  // Or it takes itself for a part of this test.
  delete env.NODE_TEST_CONTEXT;
  const child = spawn(process.execPath, [program, url], { env, stdio: ['ignore', 'pipe', 'inherit'], timeout: LIMIT_MS });
  let said = '';
  child.stdout.on('data', (bytes) => (said += bytes));
  const code = await new Promise((resolve, reject) => child.once('error', reject).once('close', resolve));
  assert.equal(code, 0, said);
  return JSON.parse(said);
}

const results = await ask();

for (const variant of VARIANTS) {
  describe(`TLS: ${variant.name}`, () => {
    for (const name of CASES) {
      test(name, () => assert.equal(results[variant.name]?.[name], null));
    }
  });
}

describe('TLS', () => {
  test('every case that was run is judged', () => assert.deepEqual(results, Object.fromEntries(VARIANTS.map(({ name }) => [name, Object.fromEntries(CASES.map((each) => [each, null]))]))));

  test('a client that does not trust the authority is kept out', async () => {
    assert.match(await failure(build({ url }, VARIANTS[0]).start()), /certificate|fetch failed/);
  });

  test('the plain port of the same server says http', async () => {
    assert.equal((await fetch(`${testhub.url}/stats`)).status, 200);
  });
});
