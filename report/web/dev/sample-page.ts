/** Writes the built page with the sample data: `npm run build && npm run sample -- failed > sample.html`. */
import { readFileSync } from "node:fs";
import type { VerdictStatus } from "../src/model";
import { sample } from "./sample";

const page = readFileSync(new URL("../dist/index.html", import.meta.url), "utf8");
const data = JSON.stringify(sample((process.argv[2] ?? "failed") as VerdictStatus)).replaceAll("<", "\\u003c");
process.stdout.write(page.replace("@RUN_DATA@", () => data));
