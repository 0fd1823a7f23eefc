package pluginhost

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/sdk/protocol"
)

// manifestFile is the file that makes a folder a plugin.
const manifestFile = "plugin.yaml"

// maxManifestBytes bounds plugin.yaml.
const maxManifestBytes = 64 << 10

// anyNamespace in a manifest's namespaces stands for all.
const anyNamespace = "*"

// manifest is plugin.yaml.
type manifest struct {
	Name        string                `yaml:"name"`        // lower-case letters, digits and "-"
	Version     string                `yaml:"version"`     // semantic version
	Protocol    int                   `yaml:"protocol"`    // version of the plugin contract: 1
	Description core.Text             `yaml:"description"` // what it is for; may be empty
	Namespaces  []string              `yaml:"namespaces"`  // the namespaces its task types may be in; "*": any
	Executables map[string]executable `yaml:"executables"` // by platform: linux/amd64
}

type executable struct {
	Path   string `yaml:"path"`   // relative to plugin.yaml, inside its folder
	SHA256 string `yaml:"sha256"` // of the file, 64 hexadecimal digits
}

var (
	namePattern      = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)
	versionPattern   = regexp.MustCompile(`^\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?$`)
	namespacePattern = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*$`)
	typePattern      = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*\.[A-Z][A-Za-z0-9]*$`)
	sumPattern       = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)
)

func finding(path, zh, en string) core.Finding {
	return core.Finding{Path: path, Message: core.Text{Zh: zh, En: en}}
}

// readManifest reads and checks a plugin's plugin.yaml. What is wrong is a KindInvalid error with findings.
func readManifest(root *os.Root, op string) (manifest, error) {
	var m manifest
	f, err := root.Open(manifestFile)
	if err != nil {
		return m, core.Invalid(op, finding(manifestFile,
			fmt.Sprintf("读不到插件说明文件：%v。请在插件文件夹中放置 plugin.yaml", err),
			fmt.Sprintf("cannot be read: %v; a plugin's folder holds a plugin.yaml", err)))
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxManifestBytes+1))
	if err != nil {
		return m, core.Errorf(core.KindInternal, op, "read %s: %w", manifestFile, err)
	}
	if len(raw) > maxManifestBytes {
		return m, core.Invalid(op, finding(manifestFile, "文件超过 64 KiB", "the file is larger than 64 KiB"))
	}
	if err := yaml.NewDecoder(bytes.NewReader(raw), yaml.Strict()).Decode(&m); err != nil && !errors.Is(err, io.EOF) {
		// The message of goccy/go-yaml gives line and column and shows the place.
		where := strings.TrimSpace(yaml.FormatError(err, false, true))
		return m, core.Invalid(op, finding(manifestFile, "格式有误："+where, "is not as it should be: "+where))
	}
	if found := m.check(); len(found) > 0 {
		return m, core.Invalid(op, found...)
	}
	return m, nil
}

// platform is the key of this machine's executable.
const platform = runtime.GOOS + "/" + runtime.GOARCH

func (m *manifest) check() (found []core.Finding) {
	wrong := func(path, zh, en string) { found = append(found, finding(path, zh, en)) }
	if !namePattern.MatchString(m.Name) {
		wrong("name", fmt.Sprintf("%q 不是合法的插件名：以小写字母开头，只含小写字母、数字和 -", m.Name),
			fmt.Sprintf(`%q is not a plugin's name: a lower-case letter, then lower-case letters, digits and "-"`, m.Name))
	}
	if !versionPattern.MatchString(m.Version) {
		wrong("version", fmt.Sprintf("%q 不是语义化版本号，请写成 1.0.0 的形式", m.Version),
			fmt.Sprintf("%q is not a semantic version such as 1.0.0", m.Version))
	}
	if m.Protocol != protocol.Version {
		wrong("protocol", fmt.Sprintf("插件协议版本为 %d，本程序只支持 %d；请换用匹配的插件，或升级 Gnomon", m.Protocol, protocol.Version),
			fmt.Sprintf("the plugin speaks version %d of the plugin protocol, this Gnomon speaks version %d; take a plugin built for it, or another Gnomon", m.Protocol, protocol.Version))
	}
	if len(m.Namespaces) == 0 {
		wrong("namespaces", "至少要列出一个命名空间", "list at least one namespace")
	}
	for i, n := range m.Namespaces {
		if n != anyNamespace && !namespacePattern.MatchString(n) {
			wrong(fmt.Sprintf("namespaces[%d]", i), fmt.Sprintf("%q 不是合法的命名空间名：以大写字母开头，只含字母和数字（* 表示任意）", n),
				fmt.Sprintf("%q is not a namespace: an upper-case letter, then letters and digits (* means any)", n))
		}
	}
	x, ok := m.Executables[platform]
	if !ok {
		have := make([]string, 0, len(m.Executables))
		for p := range m.Executables {
			have = append(have, p)
		}
		slices.Sort(have)
		wrong("executables", fmt.Sprintf("没有本机平台 %s 的可执行文件（现有：%s）", platform, strings.Join(have, "、")),
			fmt.Sprintf("there is none for this machine's platform %s (there are: %s)", platform, strings.Join(have, ", ")))
		return found
	}
	if !filepath.IsLocal(x.Path) {
		wrong("executables."+platform+".path", fmt.Sprintf("%q 不在插件文件夹之内", x.Path),
			fmt.Sprintf("%q is not inside the plugin's folder", x.Path))
	}
	if !sumPattern.MatchString(x.SHA256) {
		wrong("executables."+platform+".sha256", "应为 64 位十六进制 SHA-256，可用 sha256sum 得到",
			"must be a SHA-256 of 64 hexadecimal digits, as sha256sum prints it")
	}
	return found
}

// privateCopy copies the executable to a file that nobody else writes, hashing what it copies, and gives its path if the
// hash is the one in plugin.yaml: the bytes hashed are the bytes executed.
func (m *manifest) privateCopy(root *os.Root, to, op string) (string, error) {
	x := m.Executables[platform]
	at := "executables." + platform
	from, err := root.Open(x.Path)
	if err != nil {
		return "", core.Invalid(op, finding(at+".path", fmt.Sprintf("可执行文件 %q 打不开：%v", x.Path, err),
			fmt.Sprintf("the executable %q cannot be opened: %v", x.Path, err)))
	}
	defer from.Close()
	if info, err := from.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", core.Invalid(op, finding(at+".path", fmt.Sprintf("%q 不是普通文件", x.Path),
			fmt.Sprintf("%q is not a regular file", x.Path)))
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return "", core.Errorf(core.KindInternal, op, "%w", err)
	}
	path := filepath.Join(to, m.Name)
	copied, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o500)
	if err != nil {
		return "", core.Errorf(core.KindInternal, op, "%w", err)
	}
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(copied, sum), from)
	if err = errors.Join(err, copied.Close()); err != nil {
		return "", core.Errorf(core.KindInternal, op, "copy the executable: %w", err)
	}
	want, _ := hex.DecodeString(x.SHA256)
	if got := sum.Sum(nil); subtle.ConstantTimeCompare(got, want) != 1 {
		return "", core.Invalid(op, finding(at+".sha256",
			fmt.Sprintf("可执行文件 %q 的 SHA-256 是 %x，与登记的 %s 不符：文件被改动过，或 plugin.yaml 未更新。确认文件可信后再更新校验和", x.Path, got, x.SHA256),
			fmt.Sprintf("the SHA-256 of %q is %x, not %s: the file was changed, or plugin.yaml is out of date; update the sum only if you trust the file", x.Path, got, x.SHA256)))
	}
	return path, nil
}

// checkTypes gives what is wrong with the types a process described. namespaces are those it may offer types in.
func checkTypes(types []core.TaskType, namespaces []string) (found []core.Finding) {
	wrong := func(path, zh, en string) { found = append(found, finding(path, zh, en)) }
	if len(types) == 0 {
		wrong("task_types", "没有提供任何任务类型", "it offers no task type")
	}
	seen := map[string]bool{}
	for _, t := range types {
		at := "task_types." + t.Name
		switch {
		case !typePattern.MatchString(t.Name):
			wrong("task_types", fmt.Sprintf("%q 不是合法的任务类型名：应为 命名空间.类型，各以大写字母开头，只含字母和数字", t.Name),
				fmt.Sprintf("%q is not a task type's name: Namespace.Type, each an upper-case letter, then letters and digits", t.Name))
		case !slices.Contains(namespaces, anyNamespace) && !slices.Contains(namespaces, t.Namespace()):
			wrong(at, fmt.Sprintf("命名空间 %s 不在允许之列（%s）", t.Namespace(), strings.Join(namespaces, "、")),
				fmt.Sprintf("namespace %s is not among those it is for (%s)", t.Namespace(), strings.Join(namespaces, ", ")))
		case seen[t.Name]:
			wrong(at, "任务类型重复", "the task type is offered twice")
		}
		seen[t.Name] = true
		if t.Problem != "" {
			continue // it cannot run, and what it says of itself may be incomplete
		}
		if !isObject(t.ParamsSchema) {
			wrong(at+".params_schema", "参数的 JSON Schema 不是 JSON 对象", "the JSON Schema of the parameters is not a JSON object")
		}
		if len(t.OutputSchema) > 0 && !isObject(t.OutputSchema) && !isBool(t.OutputSchema) {
			wrong(at+".output_schema", "输出的 JSON Schema 不是 JSON 对象", "the JSON Schema of the output is not a JSON object")
		}
	}
	return found
}

func isObject(raw json.RawMessage) bool {
	var o map[string]json.RawMessage
	return json.Unmarshal(raw, &o) == nil && o != nil
}

func isBool(raw json.RawMessage) bool {
	var b bool
	return json.Unmarshal(raw, &b) == nil
}
