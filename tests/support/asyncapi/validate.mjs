// Prints what the AsyncAPI parser finds wrong with a document, as JSON, and how many messages it has.
import { fromFile, Parser } from "@asyncapi/parser";

const { document, diagnostics } = await fromFile(new Parser(), process.argv[2]).parse();
const problems = diagnostics
  .filter(({ code }) => code !== "asyncapi-latest-version")
  .map(({ message, path }) => `${path.join("/")}: ${message}`);
console.log(JSON.stringify({ problems, messages: document ? document.messages().all().length : 0 }));
