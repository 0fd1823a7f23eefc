package engine

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"

	"github.com/gnomon-scheduler/gnomon/core"
)

// FindLibrary gives the path of libchdb: explicit if not empty, else the environment variable GNOMON_LIBCHDB, else
// libchdb.so (libchdb.dylib) beside the executable, else the copy that `npm ci` puts under core/engine/libchdb of the module the
// working directory is in. A path named by the first two must exist. It fails with KindUnavailable and the way to get one.
func FindLibrary(explicit string) (string, error) {
	const op = "find libchdb"
	for _, named := range []struct{ by, path string }{{"the option", explicit}, {"GNOMON_LIBCHDB", os.Getenv("GNOMON_LIBCHDB")}} {
		if named.path == "" {
			continue
		}
		if _, err := os.Stat(named.path); err != nil {
			return "", core.Errorf(core.KindUnavailable, op, "named by %s: %w", named.by, err)
		}
		return named.path, nil
	}
	var places []string
	if exe, err := os.Executable(); err == nil {
		places = append(places, filepath.Dir(exe))
	}
	if root := moduleRoot(); root != "" {
		places = append(places, filepath.Join(root, "core", "engine", "libchdb", "node_modules", "@chdb", npmPackage()))
	}
	for _, dir := range places {
		for _, name := range []string{"libchdb.so", "libchdb.dylib"} {
			path := filepath.Join(dir, name)
			if _, err := os.Stat(path); err == nil {
				return path, nil
			}
		}
	}
	return "", &core.Error{Kind: core.KindUnavailable, Op: op, Err: errors.New("no libchdb for " + runtime.GOOS + "/" + runtime.GOARCH + " was found"),
		Findings: []core.Finding{{Message: core.Text{
			Zh: "请在源码目录运行 `make build`（内部执行 `npm ci --prefix core/engine/libchdb`），或把 libchdb.so 放在 gnomon 程序旁边，或用 GNOMON_LIBCHDB 指明路径；也可以用 GNOMON_CLICKHOUSE_DSN 连接已有的 ClickHouse",
			En: "run `make build` in the source tree (it runs `npm ci --prefix core/engine/libchdb`), or put libchdb.so beside the gnomon executable, or name it in GNOMON_LIBCHDB; or use a ClickHouse of your own with GNOMON_CLICKHOUSE_DSN",
		}}}}
}

// npmPackage is the npm package of this platform's library, without its scope.
func npmPackage() string {
	arch := map[string]string{"amd64": "x64"}[runtime.GOARCH]
	if arch == "" {
		arch = runtime.GOARCH
	}
	if runtime.GOOS == "linux" {
		return "lib-linux-" + arch + "-gnu"
	}
	return "lib-" + runtime.GOOS + "-" + arch
}

// moduleRoot is the nearest folder with a go.mod, from the working directory upwards; "" if there is none.
func moduleRoot() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return ""
		}
		dir = up
	}
}
