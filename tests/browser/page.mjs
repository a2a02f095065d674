// The exported page in a real browser: node tests/browser/page.mjs http://127.0.0.1:8000/ [--screenshots DIR]
// [--native FILE.json --min-cosine 0.9999]. One line a check; exit code 1 where one fails. It starts Chromium and nothing else:
// serve the page first, with `la-cli serve`.
import { parseArgs } from 'node:util';
import { launch } from './pages.mjs';
import * as parts from './parts.mjs';
import * as using from './using.mjs';
import * as everyday from './everyday.mjs';
import * as answers from './answers.mjs';
import * as threads from './threads.mjs';
import * as trouble from './trouble.mjs';
import { looks } from './looks.mjs';
import { native } from './native.mjs';

const { values: options, positionals } = parseArgs({ allowPositionals: true, options: {
  screenshots: { type: 'string' }, native: { type: 'string' }, 'min-cosine': { type: 'string', default: '0.9999' }, only: { type: 'string' },
} });
if (positionals.length !== 1) {
  console.error('expected the address of a served page: node tests/browser/page.mjs http://127.0.0.1:8000/');
  process.exit(2);
}
const site = new URL(positionals[0]).href, browser = await launch();
let failures = 0;

async function check(name, work) {
  if (options.only && !name.includes(options.only)) return;
  try {
    const note = await work();
    console.log(`ok   ${name}${note ? ` (${note})` : ''}`);
  } catch (error) {
    failures++;
    console.log(`FAIL ${name}: ${error.message.split('\n').slice(0, 4).join(' ')}`);
  }
}

const checks = { ...parts, ...everyday, ...using, ...answers, ...threads, ...trouble };
for (const [name, work] of Object.entries(checks)) await check(name.replaceAll('_', ' '), () => work(browser, site));
await looks(browser, site, options.screenshots, check);
if (options.native) await native(browser, site, options, check);
await browser.close();
process.exit(failures ? 1 : 0);
