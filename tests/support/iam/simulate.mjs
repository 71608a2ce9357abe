// Reads simulations from stdin (a JSON array) and writes the result of each: Allowed, ImplicitlyDenied, ExplicitlyDenied,
// or what is wrong with the question.
import { runSimulation } from "@cloud-copilot/iam-simulate";

let text = "";
for await (const chunk of process.stdin) text += chunk;
const results = [];
for (const simulation of JSON.parse(text)) {
  const response = await runSimulation(simulation, {});
  results.push(response.resultType === "error" ? JSON.stringify(response.errors) : response.overallResult);
}
process.stdout.write(JSON.stringify(results));
