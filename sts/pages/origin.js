// Puts the origin's half of the browser's session into the page's forms: unlike a cookie, what is kept here stays with this port.
"use strict";
{
  const kept = "gatehouse-origin";
  let half = "";
  try {
    half = localStorage.getItem(kept) || "";
    if (!/^[\w-]{43}$/.test(half)) {
      const raw = crypto.getRandomValues(new Uint8Array(32));
      half = btoa(String.fromCharCode(...raw)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
      localStorage.setItem(kept, half);
    }
  } catch {
    half = ""; // nothing can be kept here: as without scripts
  }
  for (const input of document.querySelectorAll('input[name="origin"]')) input.value = half;
  const resume = document.querySelector('[data-page="resume"] form');
  if (resume) resume.submit();
}
