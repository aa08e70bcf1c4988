package dedup

import "github.com/forgepipe/forgepipe/pipeline"

// long is the description.
func long() string {
	text := `Finds pictures that are the same, or nearly, keeps the preferred one of each group and rejects the others as "duplicate". It waits for all items, so that the result depends neither on their order nor on the number of workers. Nothing happens to the source files, unless action says so.

The methods of by say what is the same:

`
	for _, m := range allMethods() {
		text += "- " + m.name + ": " + m.doc + "\n"
	}
	return text + `
With several methods, items are duplicates when one of them says so; the first in the list that does is recorded. A method with confirm: true does not decide by itself: it is asked about the pairs that the one before it proposes, and both must say yes, so that [sha256, {clip: {min_similarity: 0.9}}, {lpips: {confirm: true}}] is sha256, or clip and lpips. Of a pair that it cannot measure it says no: a picture is never a duplicate by what was not measured. With orientations, hashes must say yes of one and the same: that in which the first of them finds the two nearest. clip, sscd, vector and lpips see pictures as they are, and cannot confirm what a hash finds turned.

prefer decides which item stays. Items are looked at from the most preferred to the least: one that matches an item that is kept already is rejected, any other is kept. So every rejected item matches the kept item that it is recorded with, and, what reference and decisions keep aside, no kept item matches a kept one that is preferred to it. With orientations, it is the less preferred of the two that is turned: the other one may match when it is turned. Two rejected items of one group need not match each other. Of several kept items that an item matches, the nearest is recorded, and of equally near ones the most preferred.

A rule of prefer is the name of an attribute that is a number or true or false, set by a stage before this one or one that every item has (pixels, width, height, source.bytes). The item with the higher value is preferred, with a minus before the name the one with the lower value; true is higher than false. Where a rule does not decide, the next one does, and in the end the ID that comes first in byte order. An item without the attribute, or with one that is not a number, comes after all others, with or without minus. What reference names is always kept, also where two of them match, and preferred to all others.

When a later stage fails on the item that is kept, as write does with format: jpeg and a transparent image, its duplicates are gone as well: put what can fail before dedup.

A rejection records keeper (the ID of the item that is kept; with keeper_index, the folder of the index that it is from), by (the method that proposed), distance (in bits, 0 for sha256 and pixels, or LPIPS) or similarity, what each other method measures of the two where it does (pdq_distance, clip_similarity), and rule (the rule of prefer that decided between the two, or id, reference, against, decisions) with value and keeper_value, what the two have for it.

Hashes that an item has from a stage before (pdq with pdq_quality, phash, dhash) are used, and the item is not decoded for them; others are computed and set as attributes, and pixels sets pixels_sha256. Of a pair, the high-quality image is compared. Tiles of one image are compared with each other, too.

Vectors are compared exactly, each with each, on all cores of the CPU, as is all else that dedup does. Of 25,000 vectors or more a GPU tells which pairs may be near, the first that has room; the CPU decides about these, so that the result is the same. The network of lpips runs on that GPU, too. What has no room there the CPU does; only for the network of lpips a device that is asked for must have room. The stages that make vectors, embed and infer, may run on several. An item without the vector, or with one that is not finite or nothing but zeros, fails; vectors of two lengths, networks or outputs, or of pictures that are prepared in two ways, end the run, which names the two items. They lie in the scratch folder of the state directory while they are compared, 8 bytes for each number, and the run says before how much that is. lpips decodes once more the pictures of the pairs that the other steps leave, and keeps them there squashed, 150 kB each at 224 pixels and, once the network has seen it, up to 750 kB more with what tells that two are too far apart; one that cannot be decoded any more is no duplicate by lpips. The summary says of how many pairs LPIPS was computed, and how many more were told apart by a bound. A dry run compares no vectors and no pictures: what becomes of the items is not known before the run then, also where other steps are named.

groups and pairs write down what was found; forgepipe sweep tells from pairs what other thresholds would find. With decisions, a person has the last word: the file has a row for each duplicate, and what stands in its column decision is obeyed by the next run. keep: the item stays, whatever it matches, and is preferred to all but reference. reject: it goes, as "decided by hand". different: item and keeper are no duplicates of each other. Rows with a decision stay in the file, others are made anew by each run.

With index, what the kept items are compared by is added to an index of a finished set, and with against, new items are compared with it: its entries win, and their pictures are not read, nor need they be there any more: that is what a finished set means, also for one that was renamed or deleted since. A run of a sample adds nothing. An index holds hashes and vectors, and for lpips pictures, squashed, 150 kB each at 224 pixels, so that the images need not be there. It refuses vectors of another network, another output or pictures prepared otherwise. Hashes and vectors made with decode: fast differ a little from exact ones, which nothing tells: do not mix them in one set or index.

An item whose picture is in such an index already stands for its entry: it always stays, whatever it matches, and comes right behind the entries that are left (rule against). By that is meant the same file, wherever the input folder begins, or where the file is gone, the same name in another input folder, with the same bytes. An entry whose file was changed since, or is gone while an item has its name and other bytes, takes no part: no picture is rejected for one that is only in the index. So give new pictures names of their own, or a folder of their own: what has the name of an old one in the same folder takes its place. A file of the same name in another folder is compared like any other, while the old file is there.

action says what happens to the source files of duplicates and of what a person rejects, after everything was decided: move, copy or hardlink to the folder to, or delete. They go with their sidecars and with the low-quality companion; move and delete cannot be used with sidecars: merge. Everything is written to the record before it happens, and forgepipe restore undoes what was moved. Before a file is deleted, its keeper is compared with what the run saw, and delete_count must be how many there are: a run with the wrong number deletes nothing and says the right one. What has no keeper in a file is not deleted, as what a person rejects. For what is in an index, nothing is moved or deleted unless the file that was added is there, with its bytes; where the index does not know the file, nothing is deleted. A picture goes with all that belongs to it, or stays with it. Nothing happens to source files in a dry run, and in that of a sample. A run that is interrupted moves or deletes the picture in work to the end, and the next one goes on. One that could do nothing of it, as when the folder cannot be changed, ends with an error after all else is done.

What was moved or deleted is no input of the next run, and the record keeps why it went. So groups tells, too, of what earlier runs with this record took from the input folder, for as long as it was not restored, nothing has its place, and its keeper is kept and has the same file; pairs and decisions tell of the run alone.`
}

// examples are for the intents that people have.
var examples = []pipeline.Example{
	{Doc: "Of pictures that look the same, keep the one with the most detail.", YAML: "dedup: {by: pdq, max_distance: 31, prefer: [laplacian, pixels]}"},
	{Doc: "The same file: copies byte for byte.", YAML: "dedup: {by: sha256}"},
	{Doc: "The same picture, recompressed or resized: look for the same file, the same pixels and the same look, in this order, and give the kept image the captions of its duplicates.", YAML: "dedup:\n  by: [sha256, pixels, {pdq: {max_distance: 20}}]\n  prefer: [pixels, source.bytes]\n  sidecars: merge"},
	{Doc: "The same scene: frames of one shot, and pictures that differ a little. What CLIP proposes, LPIPS must confirm.", YAML: "dedup: {by: [{clip: {min_similarity: 0.95}}, {lpips: {max_distance: 0.2, confirm: true}}]}"},
	{Doc: "The same subject, whatever the view. The threshold is one to begin with: forgepipe sweep ./out/pairs.parquet tells what stricter ones would find, and groups.jsonl what belongs together.", YAML: "dedup: {by: [{clip: {min_similarity: 0.9}}], groups: ./out/groups.jsonl, pairs: ./out/pairs.parquet}"},
	{Doc: "Copies that were cropped, mirrored or written on, by vectors of SSCD and by hashes of all orientations.", YAML: "dedup: {by: [pdq, sscd], orientations: all}"},
	{Doc: "Move duplicates out of the input folder, with their captions. forgepipe restore ./duplicates --all brings them back.", YAML: "dedup: {by: [sha256, pdq], action: move, to: ./duplicates}"},
	{Doc: "New images against a set that is finished, to which those that stay are added.", YAML: "dedup: {by: [sha256, pdq], against: ./master.index, index: ./master.index}"},
	{Doc: "Leave the last word to a person, who edits the file between two runs; what lies in master always stays.", YAML: "dedup: {by: [pdq], reference: master/**, decisions: ./decisions.csv}"},
}
