// Measures a visitor's first visit to a served page: from the navigation to the first neighbours on the screen, nothing kept.
//
//   node tests/browser/first.mjs http://127.0.0.1:8000/ [ROUNDS]        # an exported page, served with `la-cli serve`

import { chromium } from "playwright-core";
import { browse } from "./serve.mjs";

const [site, rounds = "7"] = process.argv.slice(2);
const times = [];
let bytes, about;
for (let round = 0; round < Number(rounds); round++) {
    const { browser, page } = await browse(chromium, "about:blank");
    const finished = [];
    page.context().on("requestfinished", (request) => finished.push(request.sizes().then(({ responseBodySize, responseHeadersSize }) => responseBodySize + responseHeadersSize)));
    await page.addInitScript(() => {
        new MutationObserver((_, observer) => {
            if (!document.querySelector("#neighbours li")) return;
            observer.disconnect();
            requestAnimationFrame(() => (globalThis.firstAnswer = performance.now()));
        }).observe(document, { subtree: true, childList: true });
    });
    await page.goto(site);
    await page.waitForFunction(() => globalThis.firstAnswer);
    times.push(await page.evaluate(() => globalThis.firstAnswer));
    await page.waitForFunction(() => /Ready|could not/.test(document.querySelector("#offline").textContent));
    bytes = (await Promise.all(finished)).reduce((sum, size) => sum + size, 0);
    about = await page.evaluate(() => document.querySelector("#about").textContent.split(";")[0]);
    await browser.close();
}
times.sort((a, b) => a - b);
console.log(`${about}: first answer after ${times[Math.floor(times.length / 2)].toFixed(0)} ms (${times[0].toFixed(0)} to ${times.at(-1).toFixed(0)} of ${times.length} visits); ${(bytes / 1e6).toFixed(1)} MB sent until the page works offline`);
