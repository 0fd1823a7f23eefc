// Writes core/calendar/holidays.json out of the npm package chinese-days (MIT, https://github.com/vsme/chinese-days): a
// list of core.Holidays, one year a line. Run by `make generate`.
import { readFileSync, writeFileSync } from "node:fs";

const here = new URL(".", import.meta.url);
const source = JSON.parse(readFileSync(new URL("node_modules/chinese-days/dist/chinese-days.json", here), "utf8"));
const years = new Map();
for (const field of ["holidays", "workdays"]) {
  for (const date of Object.keys(source[field]).sort()) {
    const year = Number(date.slice(0, 4));
    if (!years.has(year)) years.set(year, { region: "CN", year, holidays: {}, workdays: {} });
    years.get(year)[field][date] = source[field][date].split(",")[1];
  }
}
const lines = [...years.keys()].sort().map((year) => JSON.stringify(years.get(year)));
writeFileSync(new URL("../../core/calendar/holidays.json", here), "[\n" + lines.join(",\n") + "\n]\n");
