package definition

import (
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// inChinese says what is wrong with a value; the validator itself speaks English only. Rare kinds stay in English.
func inChinese(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		return fmt.Sprintf("类型应为 %s，实际是 %s", strings.Join(k.Want, " 或 "), k.Got)
	case *kind.Required:
		return "缺少必填参数 " + strings.Join(k.Missing, "、")
	case *kind.Enum:
		return fmt.Sprintf("只能是 %v 之一", k.Want)
	case *kind.Const:
		return fmt.Sprintf("只能是 %v", k.Want)
	case *kind.Format:
		return fmt.Sprintf("%v 不符合格式 %s", k.Got, k.Want)
	case *kind.Pattern:
		return fmt.Sprintf("%q 不匹配模式 %q", k.Got, k.Want)
	case *kind.Minimum:
		return fmt.Sprintf("不能小于 %s", k.Want.RatString())
	case *kind.Maximum:
		return fmt.Sprintf("不能大于 %s", k.Want.RatString())
	case *kind.ExclusiveMinimum:
		return fmt.Sprintf("必须大于 %s", k.Want.RatString())
	case *kind.ExclusiveMaximum:
		return fmt.Sprintf("必须小于 %s", k.Want.RatString())
	case *kind.MultipleOf:
		return fmt.Sprintf("必须是 %s 的倍数", k.Want.RatString())
	case *kind.MinLength:
		return fmt.Sprintf("长度至少为 %d，实际是 %d", k.Want, k.Got)
	case *kind.MaxLength:
		return fmt.Sprintf("长度至多为 %d，实际是 %d", k.Want, k.Got)
	case *kind.MinItems:
		return fmt.Sprintf("至少要有 %d 项，实际有 %d 项", k.Want, k.Got)
	case *kind.MaxItems:
		return fmt.Sprintf("至多只能有 %d 项，实际有 %d 项", k.Want, k.Got)
	case *kind.UniqueItems:
		return fmt.Sprintf("第 %d 项和第 %d 项重复", k.Duplicates[0]+1, k.Duplicates[1]+1)
	}
	return "参数不符合要求：" + k.LocalizedString(english)
}
