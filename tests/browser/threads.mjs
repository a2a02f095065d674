// Where the page may share memory, threads compute; where it may not, one does: to the same bits.
import assert from 'node:assert/strict';
import { hand, open, picture, rows, settle, text, through } from './pages.mjs';

const counted = async (page) => {
  await settle(page, () => laState.threads);
  const [, said] = (await text(page, '#about')).match(/computed here with simd128\S* on (one|\d+) threads?;/);
  return said === 'one' ? 1 : Number(said);
};

// What is said and found for one picture.
async function visit(browser, url) {
  const opened = await open(browser, url, { serviceWorkers: 'block' }), { page, context, errors } = opened;
  await hand(page, 'drop', [{ name: 'one.png', type: 'image/png', bytes: await picture(page, 30) }]);
  await settle(page, () => document.querySelector('#query-name').textContent === 'one.png');
  const seen = {
    threads: await counted(page), errors, isolated: await page.evaluate(() => crossOriginIsolated),
    cores: await page.evaluate(() => navigator.hardwareConcurrency), rows: await rows(page),
    embedding: await page.evaluate(() => [...document.querySelector('#results').lastEmbedding]),
    scores: await page.evaluate(() => laState.result.neighbours.map(({ score }) => score)),
  };
  await context.close();
  return seen;
}

export async function an_isolated_page_computes_with_the_machines_threads(browser, site) {
  const { threads, isolated, cores, errors } = await visit(browser, site);
  assert.equal(isolated, true, 'la-cli serve does not isolate the page');
  assert.equal(threads, Math.min(cores, 8));
  assert.deepEqual(errors, []);
  return `${threads} threads`;
}

export async function any_number_of_threads_gives_the_same_bits(browser, site) {
  const one = await visit(browser, `${site}?threads=1`);
  assert.equal(one.threads, 1);
  for (const threads of [2, 3, 5]) {
    const many = await visit(browser, `${site}?threads=${threads}`);
    assert.equal(many.threads, threads);
    for (const what of ['embedding', 'rows', 'scores']) assert.deepEqual(many[what], one[what], `${what} with ${threads} threads`);
    assert.deepEqual(many.errors, []);
  }
}

export async function a_page_that_is_not_isolated_computes_with_one_thread(browser, site) {
  const isolated = await visit(browser, site), plain = await through(site, { isolated: false }, (address) => visit(browser, address));
  assert.equal(plain.isolated, false);
  assert.equal(plain.threads, 1);
  assert.deepEqual(plain.embedding, isolated.embedding);
  assert.deepEqual(plain.rows, isolated.rows);
  assert.deepEqual(plain.errors, []);
  assert.ok(plain.asked.includes('la_wasm_relaxed_bg.wasm') && !plain.asked.some((name) => /la_wasm_threads|helper/.test(name)), `asked for ${plain.asked}`);
}

export async function threads_that_do_not_start_are_done_without(browser, site) {
  for (const missing of ['/helper.js', '/pkg/la_wasm_threads_bg.wasm', '/pkg/la_wasm_threads.js']) {
    const change = (path, body) => (path === missing ? null : body);
    const seen = await through(site, { change }, (address) => visit(browser, `${address}?threads=2`));
    assert.ok(seen.asked.includes(missing.split('/').pop()), `${missing} was not asked for`);
    assert.equal(seen.threads, 1, missing);
    assert.equal(seen.rows.length, 12, missing);
  }
}

export async function a_thread_lost_before_it_helps_is_not_waited_for(browser, site) {
  const lost = 'const lost = (call) => { throw new WebAssembly.RuntimeError(call); };';
  const change = (path, body) => (path === '/helper.js' ? `${String(body).replace('help(); }', "lost('help'); }")}\n${lost}` : body);
  const seen = await through(site, { change }, (address) => visit(browser, `${address}?threads=2`));
  assert.ok(seen.asked.includes('helper.js'));
  assert.equal(seen.rows.length, 12, 'the page waits for a thread that is lost');
}
