// How the page looks: no sideways scrolling on a phone, dark where the visitor likes it dark, pictures of both to be looked at.
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { open } from './pages.mjs';

const brightness = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).reduce((sum, value) => sum + Number(value), 0) / 3);

export async function looks(browser, site, folder, check) {
  if (folder) await mkdir(folder, { recursive: true });
  for (const width of [1280, 390]) for (const colorScheme of ['light', 'dark']) {
    const phone = width === 390;
    await check(`at ${width} pixels the ${colorScheme} page fits its width`, async () => {
      const { page, context, errors } = await open(browser, site, { viewport: { width, height: phone ? 844 : 900 }, colorScheme, isMobile: phone, hasTouch: phone });
      await page.waitForTimeout(500);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'the page scrolls sideways');
      const light = await brightness(page);
      assert.ok(colorScheme === 'dark' ? light < 60 : light > 200, `the background's brightness is ${light}`);
      if (folder) await page.screenshot({ path: `${folder}/page-${width}-${colorScheme}.png`, fullPage: true });
      assert.deepEqual(errors, []);
      await context.close();
    });
  }
}
