// The page against the command line: FILE.json holds [{ file, embedding, neighbors }] made natively.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { open, rows, settle } from './pages.mjs';

const cosine = (a, b) => {
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
};

export async function native(browser, site, options, check) {
  const least = Number(options['min-cosine']), { page, context } = await open(browser, `${site}?k=10`);
  for (const { file, embedding, neighbors } of JSON.parse(await readFile(options.native, 'utf8'))) {
    await check(`${basename(file)} is embedded as natively, to a cosine of ${least}, and has the same neighbours`, async () => {
      const before = page.url();
      await page.setInputFiles('#pick', file);
      await settle(page, ([before, name]) => location.href !== before && laState.query?.name === name && document.querySelector('#results').lastEmbedding, [before, basename(file)], 120000);
      const ours = await page.evaluate(() => [...document.querySelector('#results').lastEmbedding]), got = cosine(ours, embedding);
      assert.equal(ours.length, embedding.length);
      assert.ok(got >= least, `expected a cosine of at least ${least}, got ${got}`);
      assert.deepEqual(await rows(page), neighbors.slice(0, 10));
      return `cosine ${got.toFixed(7)}`;
    });
  }
  await context.close();
}
