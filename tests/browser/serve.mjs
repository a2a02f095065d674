// A static server for measuring: several folders under one origin, cross-origin isolated.

import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".json": "application/json" };

/** Serves `mounts` ({"/prefix/": folder}) on a free port of loopback; gives the server and its address. */
export async function serve(mounts) {
    const server = createServer((request, response) => {
        const path = normalize(decodeURIComponent(new URL(request.url, "http://x").pathname));
        const prefix = Object.keys(mounts).find((prefix) => path.startsWith(prefix));
        const headers = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };
        if (path === "/") {
            response.writeHead(200, { ...headers, "Content-Type": "text/html" }).end("<!doctype html><title>bench</title>");
            return;
        }
        if (path === "/worker.js") {
            response.writeHead(200, { ...headers, "Content-Type": "text/javascript" }).end("// What is measured here is sent in.");
            return;
        }
        try {
            const file = join(mounts[prefix], path.slice(prefix.length));
            const type = TYPES[extname(file)] ?? "application/octet-stream";
            response.writeHead(200, { ...headers, "Content-Type": type, "Content-Length": statSync(file).size });
            createReadStream(file).pipe(response);
        } catch {
            response.writeHead(404).end();
        }
    });
    await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
    return { server, address: `http://127.0.0.1:${server.address().port}/` };
}

/** Chromium without a window, and a page of its own at `address`. */
export async function browse(chromium, address, flags = []) {
    const quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
    const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", ...quiet, ...flags] });
    const page = await browser.newPage();
    page.on("pageerror", (error) => console.error(`page: ${error}`));
    await page.goto(address);
    return { browser, page };
}

/** A worker of `page`, where a module may wait for its threads: what is measured on several runs there, as on the real page. */
export async function employ(page) {
    const started = page.waitForEvent("worker");
    await page.evaluate(() => {
        globalThis.worker = new Worker("/worker.js", { type: "module" });
    });
    return started;
}
