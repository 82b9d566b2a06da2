/** Shapes that the modules share. They exist for `tsc` only and are not served. */

interface Master {
	id: string;
	collection: string;
	name: string;
	mime: string;
	/** Bytes. */
	size: number;
	width: number;
	height: number;
	sha256: string;
	/** Raised by every change. */
	revision: number;
	created_at: string;
	attributes: Record<string, unknown>;
	/** Capture metadata; null until the service has read the file. */
	capture: Capture | null;
	links: { content: string; thumbnail: string };
}

/** Degrees and metres. */
interface Place {
	latitude: number;
	longitude: number;
	altitude?: number;
}

/** What a camera or a program wrote into the file. */
interface Capture {
	/** ISO 8601, with an offset where it is known. */
	time?: string;
	camera?: string;
	lens?: string;
	/** Millimetres. */
	focal_length?: number;
	/** Seconds. */
	exposure?: number;
	aperture?: number;
	iso?: number;
	gps?: Place;
	software?: string;
	creator?: string;
	copyright?: string;
	caption?: string;
	keywords?: string[];
	/** 0 to 5 stars; -1: rejected. */
	rating?: number;
}

interface ExplainedImage {
	/** Pixels of the upright picture. */
	width: number;
	height: number;
	/** What the grid covers: left, top, width and height in these pixels. */
	region: number[];
	/** Rows of numbers: how much each place adds to the similarity. */
	grid: number[][];
}

interface Hit {
	master: Master;
	/** Cosine distance, 0 to 2. */
	distance: number;
	score: number;
	/** Calibrated probability of a match; null where the model has none. */
	probability: number | null;
	/** Whether the sample and the master have the same bytes. */
	exact: boolean;
	/** What has the same value; only where results are grouped. */
	group?: { value: unknown; more: Hit[] } | null;
	/** What is nearly the same picture; only where these are folded. */
	duplicates?: { count: number; ids: string[] } | null;
	/** The ID of the master that stands for this one. */
	under?: string;
	/** Whether only the master is known. */
	folded?: boolean;
}

/** How many of the nearest masters have each value. */
interface FacetCounts {
	masters: number;
	complete: boolean;
	paths: {
		path: string;
		masters: number;
		values: { value: unknown; count: number }[];
		others: number;
	}[];
}

/** A search for duplicates in a collection, or between two. */
interface Scan {
	collection: string;
	with: string | null;
	space: string;
	max_distance: number;
	state: "running" | "complete";
	/** Masters that were compared. */
	checked: number;
	total: number;
	pairs: number;
	/** Seconds that are left, if known. */
	eta: number | null;
}

/** A master of a group; the numbers compare it with the first one, which has none. */
interface Member extends Master {
	/** Local features in common. */
	common: number | null;
	distance: number | null;
}

interface DuplicateGroup {
	id: string;
	/** The fewest local features that two of its masters have in common. */
	certainty: number;
	members: Member[];
}

/** A group on the screen; what is suggested comes first. */
interface ReviewedGroup extends DuplicateGroup {
	/** The ID of the master that the rules keep. */
	suggested: string;
	/** The ID of the master that the user keeps. */
	keep: string;
}

interface Collection {
	name: string;
	masters: number;
}

/** What a search can compare in. */
interface Space {
	name: string;
	/** Null while the first version is being built. */
	model_version: string | null;
	/** Null if the version is not loaded. */
	dimension: number | null;
	/** What embeds words; null if the space takes none. */
	text: "encoder" | "built-in" | null;
}

/** What the form shows for one key. */
interface Choice {
	values: unknown[];
	/** Whether the values are items of lists; "mixed" where only some are. */
	list?: boolean | "mixed";
	from?: number | string;
	to?: number | string;
	/** The first moment after a range. */
	before?: number | string;
	/** How a text begins. */
	prefix?: string;
	/** A pattern of a text: `%` is any text, `_` one character. */
	like?: string;
	/** West, south, east, north in degrees. */
	within?: number[];
	/** Whether the key is there; the form shows false only. */
	exists?: boolean;
}

/** How the page shows a built-in field. */
interface Field {
	label: string;
	kind: "text" | "days" | "values" | "range" | "box";
	/** Returns a number as text, or the type of a file. */
	text?: (value: any) => string;
	/** The unit of what is typed, and how much of the service's unit it is. */
	unit?: [string, number];
	/** Whether the greatest value is offered first, not the most frequent one. */
	falling?: boolean;
	/** Ascending and descending. */
	orders?: [string, string];
}

/** The masters of a collection by the month in which they were taken, newest first. */
interface Months {
	months: { month: string; masters: number }[];
	undated: number;
	/** Masters whose files have not been read yet. */
	unread: number;
}

/** The values that masters have under one key. */
interface Summary {
	key: string;
	masters: number;
	types: string[];
	values: { value: unknown; masters?: number }[];
	distinct: number;
	minimum: number | null;
	maximum: number | null;
}

/** A file with the name of the folder it came from, or "". */
interface FoundFile {
	file: File;
	folder: string;
}

interface Sample {
	file: File;
}

/** The state of the page, as kept in the URL. */
interface State {
	collection: string;
	/** JSON text, or "". */
	filter: string;
	/** The key to sort by, after "-" where it descends; "" for the newest first. */
	sort: string;
	/** The words to search with, or "". */
	text: string;
	/** The share of the words in a search with words and a picture, 0 to 1. */
	weight: number;
	/** The space to search in; "" for the service's choice. */
	space: string;
	/** The ID of the master to search with, or "". */
	like: string;
	/** "x,y,width,height" in pixels, or "". */
	box: string;
	mirror: boolean;
	turns: boolean;
	/** The IDs of masters that results are to be like. */
	more: string[];
	/** The IDs of masters that results are to be unlike. */
	less: string[];
	/** The path of the value that results are grouped by, or "". */
	group: string;
	/** Whether near-identical results are folded into one. */
	fold: boolean;
	/** What is shown of the collection: "duplicates", or "" for its pictures. */
	view: string;
	/** The collection that duplicates are searched in as well, or "". */
	against: string;
	/** The ID of the master whose details are open, or "". */
	master: string;
	sample: Sample | null;
}

/** Left, top, right, bottom as fractions of the picture's sides. */
type Box = [number, number, number, number];
type Point = [number, number];

/** A file in the upload queue. */
interface UploadItem {
	file: File;
	/** Bytes sent so far. */
	sent: number;
	tries: number;
	note?: string;
	fields: { collection: string; attributes: string };
}

interface UploadFailure {
	item: UploadItem;
	reason: string;
	cancelled: boolean;
	retryable: boolean;
}

interface GridOptions {
	/** Returns the content of a cell; the item is undefined until it is loaded. */
	render: (item: any, width: number) => Element;
	/** Called for each removed cell. */
	dispose: (cell: Element) => void;
	item: (index: number) => any;
	/** Returns a text that changes when the cell must be rendered again. */
	cellKey: (item: any) => string | undefined;
	/** Pixels below the square at a font size of 16. */
	caption: number;
	/** Called with the half-open range of items near the window. */
	need?: (first: number, end: number) => void;
}
