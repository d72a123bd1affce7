// Asks the browser for a passkey and puts its answer into the form. Everything that is decided is decided by the server.
"use strict";
const form = document.querySelector("form[data-passkey]");
if (window.PublicKeyCredential && form) {
  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const alert = form.querySelector(".problem");
  const listed = (list) => (list || []).map((c) => ({ ...c, id: bytes(c.id) }));
  const ask = async () => {
    const o = JSON.parse(form.dataset.options);
    o.challenge = bytes(o.challenge);
    if (form.dataset.passkey === "create") {
      o.user.id = bytes(o.user.id);
      o.excludeCredentials = listed(o.excludeCredentials);
      return navigator.credentials.create({ publicKey: o });
    }
    o.allowCredentials = listed(o.allowCredentials);
    return navigator.credentials.get({ publicKey: o });
  };
  const answer = (c) => {
    const response = {};
    for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
      if (c.response[name]) response[name] = text(c.response[name]);
    }
    if (c.response.getTransports) response.transports = c.response.getTransports();
    return JSON.stringify({ id: c.id, rawId: text(c.rawId), type: c.type, response, clientExtensionResults: {}, authenticatorAttachment: c.authenticatorAttachment || undefined });
  };
  form.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    alert.hidden = true;
    try {
      form.elements.credential.value = answer(await ask());
      form.submit();
    } catch {
      alert.hidden = false;
      alert.setAttribute("role", "alert");
    }
  });
}
