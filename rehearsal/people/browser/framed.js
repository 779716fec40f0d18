// Puts a page into a frame and waits until it is there, or an error in its place.
(url) =>
  new Promise((loaded) => {
    const frame = Object.assign(document.createElement("iframe"), { src: url, onload: () => loaded() });
    document.body.append(frame);
  })
