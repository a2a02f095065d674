// How the page looks: no sideways scrolling on a phone, no word in letters, controls that stand out, dark where the visitor likes it
// dark, pictures of both to be looked at.
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { open } from './pages.mjs';

const brightness = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).reduce((sum, value) => sum + Number(value), 0) / 3);

// Of a control's border and what it stands on, by WCAG 2.
const contrast = (page, selector) => page.evaluate((selector) => {
  const control = document.querySelector(selector), linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const light = (colour) => colour.match(/\d+/g).slice(0, 3).reduce((sum, value, i) => sum + [0.2126, 0.7152, 0.0722][i] * linear(value / 255), 0.05);
  const [a, b] = [getComputedStyle(control).borderTopColor, getComputedStyle(control.closest('section')).backgroundColor].map(light);
  return Math.max(a, b) / Math.min(a, b);
}, selector);

export async function looks(browser, site, folder, check) {
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
      const { height } = await page.locator('label[for=min]').boundingBox();
      assert.ok(height < 50, `the label of the minimum similarity is ${height} pixels high`);
      if (folder) await page.screenshot({ path: `${folder}/page-${width}-${colorScheme}.png`, fullPage: true });
      assert.deepEqual(errors, []);
      await context.close();
    });
  }
}
