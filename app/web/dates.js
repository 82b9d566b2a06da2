/** Days and months, as text and as ranges of a filter: from a first moment to before another. */

const MONTHS =
	"January February March April May June July August September October November December".split(
		" ",
	);
const DAY = /^(\d{4}-\d\d-\d\d)(?:T00:00(Z|[+-]\d\d:\d\d)?)?$/;
const MOMENT = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)?$/;

/** @param {string} month such as 2024-05 */
export const monthName = (month) => MONTHS[Number(month.slice(5, 7)) - 1];

/** @param {string} day such as 2024-05-31 */
export const dayText = (day) => `${Number(day.slice(8))} ${monthName(day)} ${day.slice(0, 4)}`;

/** @param {string} day */
function shifted(day, days) {
	const moment = new Date(`${day}T00:00Z`);
	moment.setUTCDate(moment.getUTCDate() + days);
	return moment.toISOString().slice(0, 10);
}

/** @param {string} month such as 2024-05 */
export function monthRange(month) {
	const next = shifted(`${month}-28`, 4).slice(0, 7);
	return { from: `${month}-01`, before: `${next}-01` };
}

/**
 * Returns the range of a day: that of the clock by which the picture was taken.
 * @param {string} moment such as 2024-05-01T10:00:00+02:00; without an offset, in UTC
 */
export function dayRange(moment) {
	const [, day, , offset] = MOMENT.exec(moment) ?? ["", moment.slice(0, 10)];
	const first = offset ? `T00:00${offset}` : "";
	return { from: day + first, before: shifted(day, 1) + first };
}

/** Returns the day of which this is the first moment, or "". */
export function dayOf(moment) {
	const day = (typeof moment === "string" && DAY.exec(moment)?.[1]) || "";
	return Number.isNaN(Date.parse(day)) ? "" : day;
}

/** Returns the first moment after a day. */
export const dayAfter = (day) => shifted(day, 1);

/** Returns the last day of a range that ends before this moment, or "". */
export const lastDay = (before) => dayOf(before) && shifted(dayOf(before), -1);

const offsetText = (offset) => (offset ? ` (UTC${offset === "Z" ? "" : offset})` : "");

const isMonth = (from, before) => {
	const month = dayOf(from) && monthRange(from.slice(0, 7));
	return month && from === month.from && before === month.before;
};

/** Describes a range of days or moments. */
export function daysText({ from, before }) {
	const [first, last] = [dayOf(from), lastDay(before)];
	const start = first ? dayText(first) : from;
	const end = last ? dayText(last) : before;
	if (before === undefined) return `from ${start}`;
	if (from === undefined) return last ? `until ${end}` : `before ${end}`;
	if (isMonth(from, before)) return `${monthName(first)} ${first.slice(0, 4)}`;
	if (first && first === last) return start + offsetText(DAY.exec(from)?.[2]);
	return `${start} to ${end}`;
}

/** @param {string} moment such as 2024-05-01T10:00:00+02:00 */
export function momentText(moment) {
	const [, day, clock, offset] = MOMENT.exec(moment) ?? [];
	return day ? `${dayText(day)}, ${clock}${offsetText(offset)}` : moment;
}
