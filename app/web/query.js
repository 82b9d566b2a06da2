/** The filter language of the service, as far as the filter form can show it. */

/** The members of a choice, in the order in which they are written. */
const OPERATORS = {
	from: "$gte",
	to: "$lte",
	before: "$lt",
	prefix: "$prefix",
	like: "$like",
	within: "$within",
	exists: "$exists",
};

/**
 * Parses the JSON text of a filter. Returns null for a filter that the form cannot show.
 *
 * The form writes {key: {$in: […]}} and the operators below. For lists it writes
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
	else readOperators(choice, condition);
}

/** @param {Choice} choice */
function readOperators(choice, condition) {
	for (const [member, operator] of Object.entries(OPERATORS)) {
		if (operator in condition) choice[member] = condition[operator];
	}
	if (choice.exists) delete choice.exists; // the form shows only that a key is missing
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
	for (const [key, choice] of choices) {
		const { values, list } = choice;
		if (values.length && list) {
			const alone = list === "mixed" ? [{ [key]: { $in: values } }] : [];
			parts.push({ $or: [...values.map((value) => ({ [key]: { $contains: value } })), ...alone] });
		} else if (values.length) parts.push({ [key]: { $in: values } });
		const operators = Object.entries(OPERATORS)
			.filter(([member]) => choice[member] !== undefined)
			.map(([member, operator]) => [operator, choice[member]]);
		if (operators.length) parts.push({ [key]: Object.fromEntries(operators) });
	}
	if (!parts.length) return "";
	return JSON.stringify(parts.length === 1 ? parts[0] : { $and: parts });
}

/**
 * Returns the JSON text of a filter with another choice for a key, or none.
 * @param {string} text
 * @param {Partial<Choice>} chosen
 */
export function narrowFilter(text, key, chosen = {}) {
	const choice = { values: [], ...chosen };
	const choices = parseFilter(text);
	if (choices) return serialiseFilter(new Map([...choices, [key, choice]]));
	const added = serialiseFilter(new Map([[key, choice]]));
	if (!added) return text;
	try {
		return JSON.stringify({ $and: [JSON.parse(text), JSON.parse(added)] });
	} catch {
		return added; // the filter is no JSON
	}
}
