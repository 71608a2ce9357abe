// Serves DynamoDB by dynalite on a free port, which it prints, until standard input closes. Adds what dynalite lacks: the item
// in the error of a refused condition (ReturnValuesOnConditionCheckFailure).
const dynalite = require("dynalite");
const db = require("dynalite/db");

for (const operation of ["putItem", "updateItem"]) {
  require(`dynalite/validations/${operation}`).types.ReturnValuesOnConditionCheckFailure = "String";
}
const check = db.checkConditional;
db.checkConditional = (request, item) => {
  const refused = check(request, item);
  if (refused && item && request.ReturnValuesOnConditionCheckFailure === "ALL_OLD") refused.body.Item = item;
  return refused;
};
const server = dynalite({ createTableMs: 0 });
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit()).resume();
