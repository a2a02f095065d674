// A folder of pictures that changes while `la-cli serve` shows it: node tests/browser/folder.mjs LA_CLI RUN FOLDER
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { launch, open, picture, rows, settle, text } from './pages.mjs';

const [la, run, work] = process.argv.slice(2), photos = join(work, 'photos'), browser = await launch(), blank = await browser.newPage();
const add = async (name, hue) => writeFile(join(photos, name), await picture(blank, hue));
await mkdir(photos);
for (let i = 1; i <= 6; i++) await add(`picture-${i}.png`, 50 * i);

const env = { ...process.env, LA_CACHE: join(work, 'cache') };
const server = spawn(la, ['serve', run, '--data', photos], { env, stdio: ['ignore', 'pipe', 'inherit'] });
const address = /http:\S+/.exec(String((await once(server.stdout, 'data'))[0]))[0];
try {
  const { page, context, errors } = await open(browser, `${address}?row=2`), numbers = async () => (await rows(page)).map((row) => row + 1);
  const named = () => page.$$eval('#neighbours .name', (all) => all.map((one) => one.textContent)), before = await named();
  assert.equal(await page.locator('#news').isVisible(), false, 'the page speaks of a change before there is one');
  await add('at-first.png', 200);
  await page.waitForSelector('#news:not([hidden])', { timeout: 60000 });
  assert.match(await text(page, '#news-text'), /^The folder has changed: 1 picture more\.$/);

  // The page that was open before has its rows still, and their originals.
  const same = await numbers();
  await page.click('#neighbours .search');
  await settle(page, (row) => laState.query.row === row, same[0] - 1);
  await page.goBack();
  await settle(page, () => laState.query.row === 2);
  await page.click('#neighbours .look');
  await settle(page, () => document.querySelector('#view-original').naturalWidth === 40);
  const shown = await page.evaluate(async () => [...new Uint8Array(await (await fetch(document.querySelector('#view-original').src)).arrayBuffer())]);
  const first = await text(page, '#view-path');
  assert.deepEqual(Buffer.from(shown), await picture(blank, 50 * Number(/\d/.exec(first)[0])), `the original of ${first} is another picture`);
  await page.keyboard.press('Escape');

  await page.click('#news-show');
  await settle(page, () => window.laState?.bundle?.manifest.bank.rows === 7 && laState.query);
  assert.equal(await text(page, '#query-name'), 'picture-3.png', 'the question was lost');
  await settle(page, () => document.querySelectorAll('#neighbours li').length === 6);
  const now = await named();
  assert.ok(now.includes('at-first.png'), 'the new picture is not found');
  assert.equal(now.filter((name) => before.includes(name)).length, before.length);
  assert.equal(await page.locator('#news').isVisible(), false);
  assert.deepEqual(errors, []);
  await context.close();
  console.log('ok   pictures that come while a folder is served are told of and found');
} catch (error) {
  console.log(`FAIL pictures that come while a folder is served are told of and found: ${error.message.split('\n').slice(0, 4).join(' ')}`);
  process.exitCode = 1;
} finally {
  server.kill();
  await browser.close();
}
