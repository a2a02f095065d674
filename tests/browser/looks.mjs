// How the page looks: no sideways scrolling on a phone, no word in letters, controls that stand out, dark where the visitor likes it
// dark, pictures of both to be looked at.
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { hand, open, picture, settle, text } from './pages.mjs';

const brightness = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).reduce((sum, value) => sum + Number(value), 0) / 3);

// Of a control's border and what it stands on, by WCAG 2.
const contrast = (page, selector) => page.evaluate((selector) => {
  const control = document.querySelector(selector), linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const light = (colour) => colour.match(/\d+/g).slice(0, 3).reduce((sum, value, i) => sum + [0.2126, 0.7152, 0.0722][i] * linear(value / 255), 0.05);
  const [a, b] = [getComputedStyle(control).borderTopColor, getComputedStyle(control.closest('section')).backgroundColor].map(light);
  return Math.max(a, b) / Math.min(a, b);
}, selector);

// Cards that stand alone in the last line, and how many stand in a full one.
const lastLine = (page) => page.$$eval('#neighbours li', (cards) => {
  const tops = cards.map((card) => card.offsetTop), inLine = (top) => tops.filter((one) => one === top).length;
  return [inLine(tops.at(-1)), inLine(tops[0])];
});

async function bars(page) {
  await settle(page, () => laState.usual, null, 60000);
  return page.$$eval('#neighbours .score-bar', (all) => all.map((bar) => Number(/([\d.]+)%/.exec(getComputedStyle(bar).backgroundImage)?.[1] ?? NaN)));
}

export async function looks(browser, site, folder, check) {
  await check('the bar of a score goes from what any two pictures have in common to what one in ten has with its nearest', async () => {
    const { page, context } = await open(browser, site), seen = await bars(page);
    const expected = await page.evaluate(() => laState.result.neighbours.map(({ score }) => Math.min(100, 100 * (score - laState.usual.any) / (laState.usual.high - laState.usual.any))));
    seen.forEach((share, i) => assert.ok(Math.abs(Math.min(100, share) - expected[i]) < 0.5, `bar ${i} goes to ${share} %, expected ${expected[i]}`));
    await context.close();
  });
  await check('a picture of a known class is not said to look like one', async () => {
    const { page, context } = await open(browser, site);
    if (!await page.evaluate(() => Boolean(laState.bundle.labels))) return context.close();
    assert.match(await text(page, '.verdict'), /^Similar pictures are mostly .*: \d+ %$/);
    await page.evaluate(() => { laState.usual = null; });
    await hand(page, 'drop', [{ name: 'mine.png', type: 'image/png', bytes: await picture(page, 30) }]);
    await settle(page, () => laState.query.name === 'mine.png');
    await page.evaluate(() => { if (laState.usual) laState.usual.low = -1; });
    await page.fill('#k', '12');
    await page.press('#k', 'Enter');
    assert.match(await text(page, '.verdict'), /^Looks like .* of the similar pictures’ vote$/);
    await context.close();
  });
  await check('the arrows of the large view stand in one line on a phone', async () => {
    const { page, context } = await open(browser, site, { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true });
    if (await page.evaluate(() => Boolean(laState.bundle.manifest.thumbnails))) {
      await page.tap('#neighbours .look');
      await page.$eval('#view-name', (name) => { name.textContent = 'a photograph with a rather long name of 2026-11-29.jpg'; });
      const tops = await page.$$eval('#view-back, #view-on, #view-close', (all) => all.map((one) => one.getBoundingClientRect().top));
      assert.equal(new Set(tops).size, 1, `they stand at ${tops}`);
      assert.ok(await page.evaluate(() => document.querySelector('#viewer').scrollWidth <= document.querySelector('#viewer').clientWidth), 'the large view scrolls sideways');
    }
    await context.close();
  });
  if (folder) await mkdir(folder, { recursive: true });
  for (const width of [1280, 390, 320]) for (const colorScheme of ['light', 'dark']) {
    const phone = width < 800;
    await check(`at ${width} pixels the ${colorScheme} page fits its width`, async () => {
      const { page, context, errors } = await open(browser, site, { viewport: { width, height: phone ? 844 : 900 }, colorScheme, isMobile: phone, hasTouch: phone });
      await page.waitForTimeout(500);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'the page scrolls sideways');
      const light = await brightness(page);
      assert.ok(colorScheme === 'dark' ? light < 60 : light > 200, `the background's brightness is ${light}`);
      for (const control of ['#k', '#find', '#camera']) assert.ok(await contrast(page, control) >= 3, `the border of ${control} has a contrast of ${await contrast(page, control)}`);
      const [last, full] = await lastLine(page);
      assert.equal(last, full, `${last} cards stand alone under lines of ${full}`);
      const { height } = await page.locator('label[for=min]').boundingBox();
      assert.ok(height < 50, `the label of the minimum similarity is ${height} pixels high`);
      if (folder) await page.screenshot({ path: `${folder}/page-${width}-${colorScheme}.png`, fullPage: true });
      assert.deepEqual(errors, []);
      await context.close();
    });
  }
}
