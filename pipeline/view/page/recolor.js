// Tiles of codes are PNGs with a palette of 256 colours: a class is hidden by one byte of the chunk tRNS, without decoding.

const CLEAR = Uint8Array.from(
  atob("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAAC0lEQVR42mNgAAIAAAUAAen63NgAAAAASUVORK5CYII="), (c) => c.charCodeAt(0));
const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});
const hidden = new Map();

function crc(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = CRC[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

export function withoutCodes(png, codes) {
  const view = new DataView(png.buffer, png.byteOffset, png.byteLength);
  for (let at = 8; at + 12 <= png.length;) {
    const size = view.getUint32(at);
    if (view.getUint32(at + 4) === 0x74524e53) {
      for (const code of codes) if (code < size) png[at + 8 + code] = 0;
      view.setUint32(at + 8 + size, crc(png.subarray(at + 4, at + 8 + size)));
      return png;
    }
    at += size + 12;
  }
  return png;
}

// What stands for a missing tile is a clear pixel. codes://KEY/ADDRESS: the key says which codes are hidden.
export function addCodes(maplibregl) {
  maplibregl.addProtocol("codes", async (request, abort) => {
    const [, key, address] = request.url.match(/^codes:\/\/([^/]*)\/(.*)$/);
    const response = await fetch(address, { signal: abort.signal });
    if (response.status === 404) return { data: CLEAR.slice().buffer };
    if (!response.ok) throw new Error(await response.text());
    const png = new Uint8Array(await response.arrayBuffer());
    return { data: withoutCodes(png, hidden.get(key) ?? []).buffer };
  });
}

export function codesAddress(address, codes) {
  const key = `h${codes.join("-")}`;
  hidden.set(key, codes);
  return `codes://${key}/${address}`;
}
