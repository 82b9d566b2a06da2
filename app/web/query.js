/** The filter language of the service, as far as the filter form can show it. */

/**
 * Parses the JSON text of a filter. Returns null for a filter that the form cannot show.
 *
 * The form writes {key: {$in: […]}} and {key: {$gte, $lte}}. For lists it writes
 * {$or: [{key: {$contains: …}}, …]}, with {key: {$in: […]}} among these where a key has both
 * lists and single values. Several conditions are joined by one $and.
 * @param {string} text
 * @returns {Map<string, Choice> | null}
 */
export function parseFilter(text) {
	if (!text) return new Map();
	const choices = new Map();
	try {
		const filter = JSON.parse(text);
		for (const part of filter.$and ?? [filter]) {
			for (const [key, condition] of Object.entries(part)) readCondition(choices, key, condition);
		}
		return serialiseFilter(choices) === JSON.stringify(filter) ? choices : null;
	} catch {
		return null;
	}
}

/** @param {Map<string, Choice>} choices */
function readCondition(choices, key, condition) {
	if (key === "$or") {
		for (const option of condition) {
			const [[item, { $contains, $in }]] = Object.entries(option);
			choiceOf(choices, item).list = $in ? "mixed" : true;
			if (!$in) choiceOf(choices, item).values.push($contains);
		}
		return;
	}
	const choice = choiceOf(choices, key);
	if (typeof condition !== "object") choice.values.push(condition);
	else if (condition.$in) choice.values.push(...condition.$in);
	else Object.assign(choice, { from: condition.$gte, to: condition.$lte });
}

/** @returns {Choice} */
function choiceOf(choices, key) {
	if (!choices.has(key)) choices.set(key, { values: [] });
	return choices.get(key);
}

/**
 * Returns the JSON text of a filter, or "" where nothing is chosen.
 * @param {Map<string, Choice>} choices
 */
export function serialiseFilter(choices) {
	const parts = [];
	for (const [key, { values, list, from, to }] of choices) {
		if (values.length && list) {
			const alone = list === "mixed" ? [{ [key]: { $in: values } }] : [];
			parts.push({ $or: [...values.map((value) => ({ [key]: { $contains: value } })), ...alone] });
		} else if (values.length) parts.push({ [key]: { $in: values } });
		const range = {
			...(from !== undefined && { $gte: from }),
			...(to !== undefined && { $lte: to }),
		};
		if (Object.keys(range).length) parts.push({ [key]: range });
	}
	if (!parts.length) return "";
	return JSON.stringify(parts.length === 1 ? parts[0] : { $and: parts });
}
