// How fast the page answers a visitor's hand in a large bank, made from the bundle of a served page:
//
//   node tests/browser/speed.mjs http://127.0.0.1:8000/ [ROWS [THUMBNAILS_IN_A_SHEET]]        # an exported page, served with `la-cli serve`
//
// Needs Linux. Other programs that compute meanwhile make all but the CPU time longer.
import { readFileSync } from 'node:fs';
import { launch, open, settle, through } from './pages.mjs';
import { enlarged } from './large.mjs';

const [site, rows = '200000', perSheet = '64'] = process.argv.slice(2), browser = await launch(), blank = await browser.newPage();
const files = await enlarged(site, Number(rows), { page: blank, perSheet: Number(perSheet) });
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

// Milliseconds of CPU that the page's main thread took while `work` ran, by Linux's own count: other programs change it little.
async function busy(work) {
  const before = await cpuTimes();
  await work();
  const after = await cpuTimes();
  return Math.max(...[...after].map(([pid, time]) => time - (before.get(pid) ?? time)));
}

async function cpuTimes() {
  const session = await browser.newBrowserCDPSession(), { processInfo } = await session.send('SystemInfo.getProcessInfo');
  const renderers = processInfo.filter(({ type }) => type === 'renderer').map(({ id }) => id);
  await session.detach();
  return new Map(renderers.map((pid) => [pid, Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, 'utf8').split(' ')[0]) / 1e6]));
}

// Those of Chromium itself and of the waiting for frames are not the page's.
async function moves(page) {
  const frame = () => page.evaluate(() => new Promise(requestAnimationFrame));
  const idle = await busy(async () => { for (let i = 0; i < 30; i++) await frame(); }) / 30;
  await page.locator('#map').scrollIntoViewIfNeeded();
  const box = await page.locator('#map').boundingBox(), start = performance.now();
  let count = 0;
  await page.mouse.move(box.x + 20, box.y + 40);
  await page.waitForTimeout(300);
  const spent = await busy(async () => {
    for (; count < 60 && performance.now() < start + 10000; count++) {
      await page.mouse.move(box.x + box.width * (0.2 + 0.6 * (count % 20) / 20), box.y + box.height * (0.25 + count / 150));
      await frame();
    }
  });
  return spent / count - idle;
}

// Frames a second while the wheel turns.
async function zooming(page) {
  const box = await page.locator('#map').boundingBox();
  await page.focus('#map');
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  return page.evaluate(() => new Promise((resolve) => {
    const map = document.querySelector('#map'), start = performance.now();
    let frames = 0;
    requestAnimationFrame(function frame(now) {
      if (now - start > 1500) return resolve(1000 * frames / (now - start));
      const init = { deltaY: frames % 60 < 30 ? -20 : 20, ctrlKey: true, bubbles: true, cancelable: true };
      map.dispatchEvent(new WheelEvent('wheel', { ...init, clientX: innerWidth / 2, clientY: innerHeight / 2 }));
      frames++;
      requestAnimationFrame(frame);
    });
  }));
}

// How long the page stands still for a key, scripts and layout: the median of some.
async function typing(page) {
  const times = [];
  for (const typed of ['i', 'im', 'ima', 'imag', 'image', 'image_00', '7', 'zzz']) {
    times.push(await page.evaluate((typed) => {
      const find = document.querySelector('#find'), start = performance.now();
      find.value = typed;
      find.dispatchEvent(new Event('input', { bubbles: true }));
      return document.body.offsetHeight && performance.now() - start;
    }, typed));
  }
  await page.fill('#find', '');
  return median(times);
}

async function shelf(page) {
  const times = [];
  for (let i = 0; i < 5; i++) {
    times.push(await page.evaluate(async () => {
      const start = performance.now();
      document.querySelector('#shelf-random').click();
      const isPainted = (canvas) => canvas.getContext('2d').getImageData(0, 0, 160, 160).data.some((value) => value);
      const canvases = [...document.querySelectorAll('#shelf canvas')], late = start + 10000;
      while (!canvases.every(isPainted) && performance.now() < late) await new Promise((next) => setTimeout(next, 5));
      if (performance.now() >= late) return Infinity;
      return performance.now() - start;
    }));
  }
  return median(times);
}

await through(site, { files }, async (address) => {
  const start = performance.now(), { page, context } = await open(browser, address, { serviceWorkers: 'block' });
  const first = performance.now() - start;
  // What runs once after the start is not the visitor's.
  await settle(page, () => laState.usual !== null, null, 60000).catch(() => {});
  await page.waitForTimeout(1000);
  console.log(`${Number(rows).toLocaleString('en')} pictures`);
  const say = (name, value) => console.log(`${name.padEnd(28)} ${value.toFixed(1)}`);
  say('first answer, ms', first);
  say('CPU a pointer move, ms', await moves(page));
  say('frames a second of zooming', await zooming(page));
  say('a key in Find, ms', await typing(page));
  if (await page.evaluate(() => Boolean(laState.bundle.manifest.thumbnails))) say('a random shelf, ms', await shelf(page));
  await context.close();
});
await browser.close();
