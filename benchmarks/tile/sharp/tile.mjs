// Cuts JPEGs into full 512 x 512 tiles as PNG with sharp, in one of two ways:
//
//   node tile.mjs raw|dz LEVEL ADAPTIVE IMAGES THREADS INPUT OUTPUT
//
// raw decodes each image once and encodes tiles of its pixels; dz is libvips's
// own tiler on the cropped image.
// IMAGES are worked on at once, THREADS is libvips's threads for each operation.
// Without arguments it prints the versions.
import sharp from 'sharp';
import fs from 'node:fs';
import path from 'node:path';

const [way, level, adaptive, images, threads, input, output] = process.argv.slice(2);
const size = 512;

if (!way) {
  console.log(`sharp ${sharp.versions.sharp} (libvips ${sharp.versions.vips}, mozjpeg ${sharp.versions.mozjpeg}, libpng ${sharp.versions.png}, zlib-ng ${sharp.versions['zlib-ng']}) on node ${process.version}`);
  process.exit(0);
}

const png = { compressionLevel: Number(level), adaptiveFiltering: adaptive === '1' };
sharp.concurrency(Number(threads));
sharp.cache(false); // nothing is opened twice

const raw = async (file, stem) => {
  const { data, info } = await sharp(file).raw().toBuffer({ resolveWithObject: true });
  const pixels = { raw: { width: info.width, height: info.height, channels: info.channels } };
  const places = [];
  for (let y = 0; y + size <= info.height; y += size) {
    for (let x = 0; x + size <= info.width; x += size) places.push([x, y]);
  }
  // Two at a time for one image alone; with more images at once each has one.
  await each(images === '1' ? 2 : 1, places, ([left, top]) =>
    sharp(data, pixels).extract({ left, top, width: size, height: size }).png(png).toFile(path.join(output, `${stem}_x${left}_y${top}.png`)));
};

const dz = async (file, stem) => {
  const { width, height } = await sharp(file).metadata();
  await sharp(file)
    .extract({ left: 0, top: 0, width: width - width % size, height: height - height % size })
    .png(png)
    .tile({ size, overlap: 0, depth: 'one', layout: 'google', skipBlanks: -1 })
    .toFile(path.join(output, stem));
};

async function each(n, list, work) {
  let next = 0;
  const worker = async () => {
    while (next < list.length) await work(list[next++]);
  };
  await Promise.all(Array.from({ length: n }, worker));
}

const ways = { raw, dz };
await each(Number(images), fs.readdirSync(input).sort(), (name) => ways[way](path.join(input, name), path.parse(name).name));
