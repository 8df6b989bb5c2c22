// Starts one testhub for one test file, or points at a server that already runs.
//   TESTHUB_BIN  path of the testhub program; each test file starts its own
//   TESTHUB_URL  http://host:port of any server that keeps the contract; tests that stop the server need TESTHUB_BIN

import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { after } from 'node:test';

const START_MS_MAX = 20_000;
const STOP_MS_MAX = 10_000;

/** A loopback port that was free a moment ago. */
export async function freePort() {
  const probe = createServer();
  await new Promise((resolve, reject) => {
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', resolve);
  });
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

const running = new Set();
process.once('exit', () => running.forEach((child) => child.kill('SIGKILL')));

export class Testhub {
  constructor(url, child) {
    this.url = url;
    this.child = child;
    this.exited = child ? new Promise((resolve) => child.once('exit', (code, signal) => resolve({ code, signal }))) : null;
  }

  /** `shards`: threads of the server, its own choice when not given. `secure`: `caFile`, written by the server, and the port for TLS. */
  static async spawn(port, shards, secure) {
    const program = process.env.TESTHUB_BIN;
    if (!program) throw new Error('This test starts and stops its own server: set TESTHUB_BIN to the testhub program.');
    const chosen = port ?? (await freePort());
    const child = spawn(program, ['--listen', `127.0.0.1:${chosen}`, ...(shards ? ['--shards', String(shards)] : []), ...(secure ? ['--tls', `127.0.0.1:${secure.port}`, '--ca-file', secure.caFile] : [])], { stdio: ['ignore', 'pipe', 'inherit'] });
    const testhub = new Testhub(`http://127.0.0.1:${chosen}`, child);
    running.add(child);
    child.once('exit', () => running.delete(child));
    await new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`testhub did not say 'listening' within ${START_MS_MAX} ms`)), START_MS_MAX);
      let said = '';
      child.stdout.on('data', (bytes) => {
        said += bytes;
        if (said.includes('listening on http://')) {
          clearTimeout(late);
          resolve();
        }
      });
      child.once('error', reject);
      child.once('exit', (code, signal) => reject(new Error(`testhub ended at start: code ${code}, signal ${signal}`)));
    });
    return testhub;
  }

  /** SIGTERM, and SIGKILL when that takes too long; answers how it ended. */
  async stop(signal = 'SIGTERM') {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill(signal);
    const late = setTimeout(() => this.child.kill('SIGKILL'), STOP_MS_MAX);
    const ended = await this.exited;
    clearTimeout(late);
    return ended;
  }

  async connections() {
    const response = await fetch(`${this.url}/stats`);
    if (response.status !== 200) throw new Error(`/stats answered ${response.status}`);
    return (await response.json()).connections;
  }
}

/** The server of the calling test file, stopped when the file ends. A crash of the server fails the file. */
export async function testhubForThisFile(shards) {
  const elsewhere = process.env.TESTHUB_URL;
  if (elsewhere) return new Testhub(elsewhere.replace(/\/$/, ''), null);
  const testhub = await Testhub.spawn(undefined, shards);
  after(async () => {
    const { code, signal } = testhub.child;
    if (testhub.child.exitCode !== null || testhub.child.signalCode !== null) {
      throw new Error(`testhub ended during the tests: code ${testhub.child.exitCode ?? code}, signal ${testhub.child.signalCode ?? signal}`);
    }
    const ended = await testhub.stop();
    if (ended.code !== 0) throw new Error(`testhub ended badly: code ${ended.code}, signal ${ended.signal}`);
  });
  return testhub;
}
