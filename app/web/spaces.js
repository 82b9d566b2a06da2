/** What the spaces of the service mean for a search by words. */

const UNDERSTOOD = 0.5; // below this, the hits mean little
const SOME_WORDS = "The built-in words may not know this text. For free text, install an encoder:";
const NO_WORDS = "Words need an encoder. Install one for free text:";

/**
 * Returns the space that a search by words compares in, if it is known. The service chooses `words`
 * if that space has a version, and `look` otherwise.
 * @param {Space[]} spaces
 * @param {string} chosen "" for the service's choice
 */
export function spaceForWords(spaces, chosen) {
	const named = (name) => spaces.find((space) => space.name === name);
	return named(chosen || (named("words")?.model_version ? "words" : "look"));
}

/**
 * Returns whether a space takes pictures only.
 * @param {Space | undefined} space
 */
export const needsEncoder = (space) => Boolean(space?.dimension && !space.text);

/**
 * Returns what to say above the answer to a search by words, or "".
 * @param {{understood?: number | null, code?: string}} answer how near the words are to what the
 *   service knows, 0 to 1; or the code of the error
 * @param {Space | undefined} space
 */
export function adviceOn({ understood = null, code = "" }, space) {
	if (code === "text-not-supported") return NO_WORDS;
	if (code === "text-not-understood" && space?.text === "built-in") return SOME_WORDS;
	return understood !== null && understood < UNDERSTOOD ? SOME_WORDS : "";
}

/**
 * Describes the shares of the words and of the picture.
 * @param {number} weight the share of the words, 0 to 1
 */
export function balance(weight) {
	const words = Math.round(weight * 100);
	return `${words} % words, ${100 - words} % picture`;
}
