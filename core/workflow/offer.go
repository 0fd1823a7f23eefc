package workflow

import (
	"encoding/json"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// ProviderName is who offers TypeName.
const ProviderName = "gnomon"

// Type is the task type of workflows, as the catalog offers it.
func Type() core.TaskType {
	return core.TaskType{
		Name: TypeName, Provider: ProviderName, Version: "1.0.0",
		Title: core.Text{Zh: "工作流", En: "Workflow"},
		Description: core.Text{
			Zh: "按图启动同一命名空间里的其他任务：成功、失败或无论如何之后，分支与汇合，并把输出交给后面的步骤；可取消，可从失败的步骤重跑。",
			En: "Starts other tasks of its namespace by a graph: after success, failure or either, side by side and joined again, handing outputs on; can be cancelled and run again from the step that failed.",
		},
		ParamsSchema: json.RawMessage(paramsSchema), OutputSchema: json.RawMessage(outputSchema),
		Timeout: 24 * time.Hour, Resumable: true,
	}
}

const paramsSchema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "additionalProperties": false,
  "required": ["steps"],
  "properties": {
    "steps": {
      "type": "array", "minItems": 1, "maxItems": 500,
      "title": "步骤 / Steps",
      "items": {
        "type": "object",
        "additionalProperties": false,
        "required": ["name", "task"],
        "properties": {
          "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$", "description": "步骤名，在工作流内唯一 / Unique in the workflow"},
          "task": {"type": "string", "minLength": 1, "maxLength": 512, "description": "同一命名空间里的任务名 / Name of a task in the same namespace"},
          "needs": {"type": "array", "maxItems": 100, "items": {"type": "string"}, "description": "先要结束的步骤 / Steps that must be over before it is decided"},
          "when": {"enum": ["success", "failure", "always"], "default": "success", "description": "前置步骤全部成功、至少一个失败、或无论如何之后运行 / Runs after all it needs succeeded, after at least one failed, or either way"},
          "params": {"type": "object", "description": "覆盖任务自己的参数；以 $. 开头的文字是路径，如 $.steps.load.output.total、$.inputs.day、$.run.fire_at；以 $$. 开头的是普通文字 / Laid over the task's own parameters; a text that begins with $. is a path: $.steps.load.output.total, $.inputs.day, $.run.fire_at; one that begins with $$. is a plain text"}
        }
      }
    },
    "inputs": {"type": "object", "description": "步骤用 $.inputs.<名称> 取的值 / What steps take by $.inputs.<name>"},
    "resume": {
      "type": "object",
      "additionalProperties": false,
      "required": ["run"],
      "description": "接着一次更早的运行；由重跑操作写入 / An earlier run that is gone on with; written by the operation that runs it again",
      "properties": {
        "run": {"type": "string", "minLength": 1, "maxLength": 64},
        "from": {"type": ["array", "null"], "items": {"type": "string"}},
        "done": {"type": ["array", "null"], "items": {"type": "string"}}
      }
    }
  },
  "examples": [{"steps": [
    {"name": "load", "task": "load-orders"},
    {"name": "report", "task": "daily-report", "needs": ["load"], "params": {"rows": "$.steps.load.output.rows"}},
    {"name": "alarm", "task": "send-alarm", "needs": ["load", "report"], "when": "failure", "params": {"text": "$.steps.load.message"}}
  ]}]
}`

const outputSchema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "required": ["steps"],
  "properties": {
    "steps": {
      "type": "object",
      "additionalProperties": {
        "type": "object",
        "properties": {
          "run_id": {"type": "string", "description": "步骤的运行编号 / The step's run"},
          "verdict": {"type": "string", "description": "结果；skipped 表示条件不成立 / How it ended; skipped: its condition did not hold"},
          "message": {"type": "string"},
          "output": {"description": "步骤交出的数据 / What it handed on"},
          "output_omitted_bytes": {"type": "integer", "description": "全部输出超过 1 MiB 时，略去的输出的大小 / Size of an output that is left out, as all together are larger than 1 MiB"}
        }
      }
    }
  }
}`
