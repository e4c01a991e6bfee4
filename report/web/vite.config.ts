import { defineConfig, type Plugin } from "vite";

/** Puts the one script and the one style sheet into the page itself, so that the report is a single file. */
function inlineEverything(): Plugin {
  return {
    name: "inline-everything",
    enforce: "post",
    generateBundle(_options, bundle) {
      const page = bundle["index.html"];
      if (page === undefined || page.type !== "asset") throw new Error("index.html is not in the bundle");
      let html = String(page.source);
      for (const [name, part] of Object.entries(bundle)) {
        if (part.type === "chunk") {
          const tag = new RegExp(`<script type="module"[^>]*src="[^"]*${name}"></script>`);
          if (!tag.test(html)) throw new Error(`no script tag for ${name}`);
          html = html.replace(tag, "");
          // At the end of the body: the page's elements and its data exist when the script runs.
          const script = `<script type="module">${part.code.replaceAll("</script", "<\\/script")}</script>`;
          html = html.replace("</body>", () => `${script}\n</body>`);
          delete bundle[name];
        } else if (name.endsWith(".css")) {
          const tag = new RegExp(`<link rel="stylesheet"[^>]*href="[^"]*${name}">`);
          if (!tag.test(html)) throw new Error(`no link tag for ${name}`);
          html = html.replace(tag, () => `<style>${String(part.source)}</style>`);
          delete bundle[name];
        }
      }
      page.source = html;
      const left = Object.keys(bundle).filter((name) => name !== "index.html");
      if (left.length > 0) throw new Error(`not inlined: ${left.join(", ")}`);
    },
  };
}

export default defineConfig({
  base: "./",
  plugins: [inlineEverything()],
  // By number: a minimal system has no /etc/hosts to look `localhost` up in.
  server: { host: "127.0.0.1" },
  build: {
    target: "es2022",
    outDir: process.env.TWINSTORM_REPORT_OUT ?? "dist",
    emptyOutDir: true,
    modulePreload: false,
    assetsInlineLimit: 1_000_000,
    cssCodeSplit: false,
  },
});
