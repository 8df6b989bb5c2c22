// The page that fanfare-loadgen makes of a run, in headless Chromium: complete, legible, and alone with its file.
//   LOADGEN_BIN  path of the fanfare-loadgen program
//   CHROMIUM     path of the browser, /usr/bin/chromium when not given
//   SCREENSHOTS  a folder for a picture of each page

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';
import { testhubForThisFile } from '../support/testhub.mjs';

const program = process.env.LOADGEN_BIN;
if (!program) throw new Error('Set LOADGEN_BIN to the fanfare-loadgen program.');
const testhub = await testhubForThisFile();
const folder = await mkdtemp(join(tmpdir(), 'fanfare-report-'));
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
after(async () => {
  await browser.close();
  await rm(folder, { recursive: true });
});

const METHODS = ['--publish-method', 'BroadcastAll', '--arguments', 'payload', '--publish-target', 'Broadcast'];
const LOAD = ['--rate', '50/s', '--duration', '3s', '--warmup', '1s', '--server-pid', String(process.pid), ...METHODS];
/** name, command and flags, words that the page must have */
const RUNS = [
  ['broadcast', ['broadcast', '-n', '40', '--threshold', 'last.p99<1us', ...LOAD], ['Percentile spectrum', 'Latency over time', 'Last receiver', 'Rates', 'Connections', 'CPU and memory', 'Ledger', 'thresholds missed', 'To repeat']],
  ['mixed', ['broadcast', '-n', '40', '--transport', 'ws=80,sse=10,lp=10', ...LOAD], ['Classes of receivers']],
  ['slow', ['slow', '-n', '20', '--part', '0.2', '--read-rate', '4KiB/s', ...LOAD], ['Slow readers']],
  ['soak', ['soak', '-n', '20', '--interval', '500ms', ...LOAD], ['Drift']],
  ['churn', ['churn', '-n', '20', '--part', '0.5', '--life', 'exp:500ms', ...LOAD], ['Connections that came and went']],
  ['storm', ['storm', '-n', '60', '--after', '1s', '--duration', '3s'], ['All back after', 'Connections that came and went']],
  ['connect', ['connect', '-n', '50', '--hold', '500ms'], ['connecting: handshake']],
];

/** Runs the generator; a verdict or a threshold may end it with 6 or 7, and there is a report all the same. */
async function measure(name, [command, ...flags]) {
  const out = join(folder, name);
  const words = [command, '--target', `${testhub.url}/testhub`, '--out', out, '--quiet', ...flags];
  await promisify(execFile)(program, words).catch((error) => assert.ok([6, 7].includes(error.code), `${error}\n${error.stderr}`));
  return pathToFileURL(join(out, 'report.html')).href;
}

/** What is wrong with the page as it is drawn, found in the page. */
function faults() {
  const found = [];
  if (document.documentElement.scrollWidth > innerWidth) found.push(`the page is ${document.documentElement.scrollWidth} wide`);
  for (const cell of document.querySelectorAll('td')) {
    const { width, height } = cell.getBoundingClientRect();
    if (height > 120 && width < 100) found.push(`'${cell.textContent}' is squeezed into a column of letters`);
  }
  for (const svg of document.querySelectorAll('.chart svg')) {
    const name = svg.getAttribute('aria-label');
    if (!name) found.push('a chart without a description');
    // NaN in a coordinate is drawn nowhere and complained about by nobody.
    if (/NaN|undefined|Infinity/.test(svg.outerHTML)) found.push(`${name}: a coordinate is no number`);
    if (![...svg.querySelectorAll('path')].some((path) => path.getAttribute('d'))) found.push(`${name}: nothing is drawn`);
    const frame = svg.closest('.card').getBoundingClientRect();
    const words = [...svg.querySelectorAll('text')].map((node) => ({ text: node.textContent, box: node.getBoundingClientRect() }));
    words.forEach(({ text, box }, index) => {
      if (box.left < frame.left || box.right > frame.right) found.push(`${name}: '${text}' leaves its card`);
      for (const other of words.slice(index + 1)) {
        const over = Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left);
        const down = Math.min(box.bottom, other.box.bottom) - Math.max(box.top, other.box.top);
        // Boxes are a little larger than their letters.
        if (over > 2 && down > 5) found.push(`${name}: '${text}' and '${other.text}' lie on each other`);
      }
    });
  }
  return found;
}

describe('report.html', () => {
  for (const [name, flags, wanted] of RUNS) {
    test(name, async () => {
      const url = await measure(name, flags);
      for (const [width, colorScheme] of [[1280, 'light'], [1280, 'dark'], [390, 'light'], [390, 'dark']]) {
        const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
        const page = await context.newPage();
        const [complaints, requests] = [[], []];
        page.on('console', (message) => complaints.push(message.text()));
        page.on('pageerror', (error) => complaints.push(error.message));
        page.on('request', (request) => requests.push(request.url()));
        await page.goto(url);
        // Charts are drawn once their width is known.
        await page.waitForFunction(() => [...document.querySelectorAll('.chart')].every((chart) => chart.querySelector('svg')));
        const place = `${name} at ${width}, ${colorScheme}`;
        assert.deepEqual(complaints, [], place);
        assert.deepEqual(requests, [url], `${place}: a page that needs nothing asks for nothing`);
        assert.deepEqual(await page.evaluate(faults), [], place);
        const text = await page.evaluate(() => document.body.innerText);
        for (const words of wanted) assert.ok(text.includes(words), `${place} has '${words}'`);
        assert.ok(!/undefined|NaN|\[object/.test(text), `${place}: ${text.match(/.*(undefined|NaN|\[object).*/)?.[0]}`);
        if (process.env.SCREENSHOTS) await page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}-${width}-${colorScheme}.png`), fullPage: true });
        await context.close();
      }
    });
  }
});
