package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
	"github.com/gnomon-scheduler/gnomon/core/recorder"
)

// When the doctor speaks up about history.
const (
	lagIsLong      = 30 * time.Second // a record that is not in history for so long
	spoolIsFilling = 0.8              // of its limit
	diskIsFull     = 0.05             // of the disk free
	daysAreFew     = 14               // until the disk is full
	partsAreMany   = 300              // in one partition; from 1,000 on ClickHouse slows writers
	mergeIsLong    = 2 * time.Hour
	endIsLong      = 30 * time.Second // of a statement that was cancelled
	manyNamespaces = 5                // named in a text
)

// examineHistory looks at the road from the spool to history, and at how history lies on disk.
func (i insight) examineHistory(ctx context.Context, say sayFunc) {
	i.a.watch.look(ctx, 0)
	storage, known, since, down := i.a.watch.last()
	if down != nil {
		limited, cancel := context.WithTimeoutCause(ctx, time.Second, down) // the rest asks it for little
		defer cancel()
		ctx = limited
		what, todo := "the ClickHouse server", bilingual("请检查 GNOMON_CLICKHOUSE_DSN 所指的服务器", "look at the server that GNOMON_CLICKHOUSE_DSN names")
		if i.a.engine != nil {
			what, todo = "the embedded engine", engineTrouble(i.a.engine.PID(), i.a.engine.Silent())
		}
		say("history", "error", false, map[string]any{"down_since": since.UTC(), "why": down.Error()},
			fmt.Sprintf("历史库自 %s 起没有应答；日志和运行记录留在本地，恢复后自动补写。%s：%v", localTime(since), todo[0], down),
			fmt.Sprintf("%s has not answered since %s; lines and runs wait on disk and are written when it does. %s: %v", what, localTime(since), todo[1], down))
	} else {
		say("history", "error", true, i.a.history.Version(), "历史库有应答，ClickHouse "+i.a.history.Version(), "history answers, ClickHouse "+i.a.history.Version())
	}
	n, longest := i.a.gateway.Abandoned()
	examineAbandoned(n, longest, i.a.engine != nil, say)
	spool := i.a.spool.Stats()
	examineSpool(spool, say)
	if known {
		examineStorage(storage, say)
		memory := i.a.engineMemory(storage)
		say("engine_memory", "info", true, memory, "ClickHouse 占用内存 "+sizeText(int64(memory)), "ClickHouse takes "+sizeText(int64(memory))+" of memory")
	}
	i.examineDisk(ctx, say)
	if down == nil {
		i.examineRollups(ctx, say)
		i.examineThinning(ctx, say)
		i.examineSpans(ctx, say)
	}
}

// examineAbandoned says which statements of analysts go on although nobody waits for them.
func examineAbandoned(n int, longest time.Duration, embedded bool, say sayFunc) {
	if longest < endIsLong { // it is being cancelled
		say("unending_statements", "warning", true, 0, "没有取消后仍在执行的查询", "no statement works on after it was cancelled")
		return
	}
	todo := bilingual("满五分钟后引擎将自动重启", "after five minutes the engine is started again by itself")
	if !embedded {
		todo = bilingual("请在该 ClickHouse 的 system.processes 中查找 is_cancelled 的查询，必要时重启它", "look for statements with is_cancelled in system.processes of that ClickHouse, and start it again if need be")
	}
	say("unending_statements", "warning", false, map[string]any{"statements": n, "longest_s": longest.Seconds()},
		fmt.Sprintf("有 %d 条查询取消后仍在执行，最久的已 %.0f 秒，各占一个名额；日志中为 “statement does not end”。%s", n, longest.Seconds(), todo[0]),
		fmt.Sprintf("%d statements work on after they were cancelled, the first for %.0f s, and each keeps a place; the log says “statement does not end”. %s", n, longest.Seconds(), todo[1]))
}

// examineRollups says how far the roll-ups are of which the views are made.
func (i insight) examineRollups(ctx context.Context, say sayFunc) {
	r, err := i.a.history.RollupState(ctx)
	switch {
	case err != nil:
		say("rollups", "warning", false, nil, "汇总进度未能读取："+err.Error(), "how far the roll-ups are cannot be read: "+err.Error())
	case r.Through.IsZero():
		say("rollups", "warning", false, nil, "历史汇总正在首次生成，视图 v_* 尚不完整；表 rollups 记录进度", "the roll-ups are being made for the first time, so the views v_* are not complete; table rollups says how far they are")
	default:
		late := r.Behind > r.Usual
		zh := fmt.Sprintf("历史汇总（视图 v_* 的来源）落后 %.0f 秒，此处 %.0f 秒以内属正常", r.Behind.Seconds(), r.Usual.Seconds())
		en := fmt.Sprintf("the roll-ups, of which the views v_* are made, are %.0f s behind; up to %.0f s is usual here", r.Behind.Seconds(), r.Usual.Seconds())
		if late {
			zh, en = zh+"：请在服务器日志中查找 “roll-ups”，并查看机器是否过忙", en+": look for “roll-ups” in the server's log, and whether the machine is too busy"
		}
		say("rollups", "warning", !late, r.Behind.Seconds(), zh, en)
	}
}

// examineThinning says how far old samples are thinned.
func (i insight) examineThinning(ctx context.Context, say sayFunc) {
	t, err := i.a.history.ThinState(ctx)
	facts := map[string]any{"days": t.Days, "through": t.Through, "rows_before": t.RowsBefore, "rows_after": t.RowsAfter, "bytes_before": t.BytesBefore, "bytes_after": t.BytesAfter}
	switch {
	case err != nil:
		say("thinning", "warning", false, nil, "旧读数的抽稀进度未能读取："+err.Error(), "how far old samples are thinned cannot be read: "+err.Error())
	case t.Days == 0:
		say("thinning", "info", true, facts, "还没有抽稀过的读数：读数都是测得的原样", "no samples are thinned: all are as they were measured")
	default:
		say("thinning", "info", true, facts, fmt.Sprintf("抽稀到 %s 的读数（每五分钟一行）：%d 行变为 %d 行", t.Through.Format(time.DateOnly), t.RowsBefore, t.RowsAfter),
			fmt.Sprintf("samples are thinned through %s, to one row for five minutes: %d rows became %d", t.Through.Format(time.DateOnly), t.RowsBefore, t.RowsAfter))
	}
}

// engineTrouble says what is the matter with an engine that does not answer, and what will be done about it; pid 0: there is none.
func engineTrouble(pid int, silent time.Duration) [2]string {
	switch {
	case pid == 0:
		return bilingual("引擎已退出，正在自动重启；若一直不恢复，请看服务器日志中的 “engine ended” 与 “engine not restarted”",
			"it has ended and is started again by itself; if it stays away, look for “engine ended” and “engine not restarted” in the server's log")
	case silent > 0:
		return bilingual(fmt.Sprintf("引擎进程 %d 仍在，但已有约 %s 没有应答；满一分钟（占用处理器时为五分钟）后将自动结束并重启它，日志中为 “engine hangs”", pid, silent),
			fmt.Sprintf("its process %d is there and has not answered for about %s; after a minute (five while it uses the processor) it is ended and started again by itself, and the log says “engine hangs”", pid, silent))
	}
	return bilingual("引擎进程正在启动或繁忙；退出或停止应答时会自动重启", "its process is starting or busy; it is started again by itself when it ends or hangs")
}

func bilingual(zh, en string) [2]string { return [2]string{zh, en} }

// examineSpool looks at what is not in history yet.
func examineSpool(spool recorder.Stats, say sayFunc) {
	used := float64(spool.SpoolBytes) / float64(max(spool.MaxBytes, 1))
	facts := map[string]any{
		"used_bytes": spool.SpoolBytes, "limit_bytes": spool.MaxBytes, "unshipped_segments": spool.Unshipped, "unshipped_bytes": spool.UnshippedBytes,
		"ship_lag_seconds": spool.OldestUnshipped.Seconds(), "shipped_lines_per_second": spool.ShipRate, "dropped_lines": spool.LinesDropped,
		"dropped_samples": spool.SamplesDropped, "quarantined_segments": spool.Quarantined, "full": spool.Full,
	}
	if !spool.OldestUnshippedAt.IsZero() {
		facts["oldest_unshipped"] = spool.OldestUnshippedAt.UTC()
	}
	var zh, en []string
	severity := "warning"
	add := func(z, e string) { zh, en = append(zh, z), append(en, e) }
	switch {
	case spool.Full:
		severity = "error"
		add("缓冲区已满，写日志的任务在等待：请恢复历史库，或加大磁盘", "the spool is full and tasks that log wait: get history back, or give it more disk")
	case spool.WriteError != nil:
		severity = "error"
		add(fmt.Sprintf("缓冲区自 %s 起写不进磁盘：%v", localTime(spool.WriteErrorSince), spool.WriteError), fmt.Sprintf("the spool cannot write since %s: %v", localTime(spool.WriteErrorSince), spool.WriteError))
	case used >= spoolIsFilling:
		add("缓冲区快满了：满了以后写日志的任务会等待", "the spool is nearly full: tasks that log will wait once it is")
	}
	if spool.ShipError != nil {
		add(fmt.Sprintf("历史库自 %s 起不收：%v", localTime(spool.ShipErrorSince), spool.ShipError), fmt.Sprintf("history has taken nothing since %s: %v", localTime(spool.ShipErrorSince), spool.ShipError))
	} else if spool.OldestUnshipped > lagIsLong {
		add("补写落后：历史库收得比说得慢", "shipping is behind: history takes less than is said")
	}
	if spool.LinesDropped > 0 {
		add(fmt.Sprintf("丢弃 %d 行（日志中有缺口标记）", spool.LinesDropped), fmt.Sprintf("%d lines were dropped (their logs say where)", spool.LinesDropped))
	}
	if spool.Quarantined > 0 {
		add(fmt.Sprintf("%d 个段被隔离在 spool/quarantine", spool.Quarantined), fmt.Sprintf("%d segments lie in spool/quarantine", spool.Quarantined))
	}
	ok := len(zh) == 0
	oldestZh, oldestEn := "没有未入库的记录", "nothing waits"
	if !spool.OldestUnshippedAt.IsZero() {
		at, lag := localTime(spool.OldestUnshippedAt), spool.OldestUnshipped.Round(100*time.Millisecond)
		oldestZh, oldestEn = fmt.Sprintf("最早未入库的记录是 %s 的（落后 %s）", at, lag), fmt.Sprintf("the oldest record that is not in history is of %s (%s behind)", at, lag)
	}
	add(fmt.Sprintf("缓冲区 %s，占上限 %s 的 %.0f%%", sizeText(spool.SpoolBytes), sizeText(spool.MaxBytes), 100*used), fmt.Sprintf("the spool has %s, %.0f %% of its limit of %s", sizeText(spool.SpoolBytes), 100*used, sizeText(spool.MaxBytes)))
	add(oldestZh, oldestEn)
	add(fmt.Sprintf("最近一分钟每秒入库 %.0f 行", spool.ShipRate), fmt.Sprintf("%.0f lines a second went into history over the last minute", spool.ShipRate))
	say("spool", severity, ok, facts, strings.Join(zh, "；"), strings.Join(en, "; "))
}

// examineStorage looks at tables, parts and merges.
func examineStorage(s clickhouse.Storage, say sayFunc) {
	total := uint64(0)
	var sizes, wrongZh, wrongEn []string
	bytes := map[string]any{}
	severity := "warning"
	for _, t := range s.Tables {
		total += t.Bytes
		bytes[t.Name] = map[string]uint64{"rows": t.Rows, "bytes": t.Bytes, "parts": t.Parts}
		if t.Bytes > 0 {
			sizes = append(sizes, t.Name+" "+sizeText(int64(t.Bytes)))
		}
		if t.MostParts >= partsAreMany {
			wrongZh = append(wrongZh, fmt.Sprintf("%s 的一个分区有 %d 个数据块：合并跟不上写入", t.Name, t.MostParts))
			wrongEn = append(wrongEn, fmt.Sprintf("a partition of %s has %d parts: merges do not keep up", t.Name, t.MostParts))
		}
		if t.Broken > 0 {
			severity = "error"
			wrongZh = append(wrongZh, fmt.Sprintf("%s 有 %d 个数据块损坏，已被搁置：请从备份恢复", t.Name, t.Broken))
			wrongEn = append(wrongEn, fmt.Sprintf("%d parts of %s are damaged and set aside: restore from a backup", t.Broken, t.Name))
		}
	}
	say("history_size", "info", true, bytes, "历史库共 "+sizeText(int64(total))+"："+strings.Join(sizes, "，"), "history has "+sizeText(int64(total))+": "+strings.Join(sizes, ", "))
	if s.OldestMerge > mergeIsLong {
		wrongZh = append(wrongZh, fmt.Sprintf("一次合并已进行 %s", s.OldestMerge.Round(time.Minute)))
		wrongEn = append(wrongEn, fmt.Sprintf("a merge has been running for %s", s.OldestMerge.Round(time.Minute)))
	}
	for _, m := range s.Mutations {
		wrongZh, wrongEn = append(wrongZh, "变更失败 "+m), append(wrongEn, "a mutation fails: "+m)
	}
	for _, t := range s.ReadOnly {
		severity = "error"
		wrongZh = append(wrongZh, t+" 只读：请检查 ClickHouse Keeper")
		wrongEn = append(wrongEn, t+" is read-only: look at ClickHouse Keeper")
	}
	if len(wrongZh) == 0 {
		say("history_health", severity, true, s.Merges, fmt.Sprintf("数据块与合并正常（%d 个合并进行中）", s.Merges), fmt.Sprintf("parts and merges are in order (%d merges run)", s.Merges))
		return
	}
	say("history_health", severity, false, wrongEn, strings.Join(wrongZh, "；"), strings.Join(wrongEn, "; "))
}

// examineDisk looks at the disk of the data folder and how long it will last.
func (i insight) examineDisk(ctx context.Context, say sayFunc) {
	host, ok := i.a.sampler.HostSample()
	if !ok || host.DataTotalBytes == 0 {
		return
	}
	free := float64(host.DataFreeBytes) / float64(host.DataTotalBytes)
	left := sizeText(int64(host.DataFreeBytes))
	facts := map[string]any{"free_bytes": host.DataFreeBytes, "total_bytes": host.DataTotalBytes}
	zh := fmt.Sprintf("数据目录所在磁盘剩余 %.0f%%（%s）", 100*free, left)
	en := fmt.Sprintf("the disk of the data folder has %.0f %% left (%s)", 100*free, left)
	lost, known, err := i.a.history.DiskTrend(ctx, host.Host, i.a.clock.Now())
	soon := false
	switch {
	case err != nil || !known:
		zh, en = zh+"；减少的快慢还不知道：需要一小时的读数", en+"; how fast it fills is not known yet: that takes readings of an hour"
	case lost <= 0:
		zh, en = zh+"；最近一周没有减少", en+"; it has not been filling in the last week"
	default:
		days := float64(host.DataFreeBytes) / lost / 86400
		facts["days_until_full"], facts["lost_bytes_per_day"] = days, lost*86400
		soon = days < daysAreFew
		zh += fmt.Sprintf("；按最近一周每天减少 %s 计，约 %.0f 天后写满", sizeText(int64(lost*86400)), days)
		en += fmt.Sprintf("; at the %s a day of the last week it is full in about %.0f days", sizeText(int64(lost*86400)), days)
	}
	if soon || free <= diskIsFull {
		zh, en = zh+"：请加大磁盘、缩短保留时间，或清理同一磁盘上的其他文件", en+": give it more disk, keep history for less long, or clear other files of that disk"
	}
	severity := "warning"
	if free <= diskIsFull {
		severity = "error"
	}
	say("disk", severity, !soon && free > diskIsFull, facts, zh, en)
}

// examineSpans says from when to when history has runs.
func (i insight) examineSpans(ctx context.Context, say sayFunc) {
	spans, err := i.a.history.Spans(ctx)
	if err != nil {
		say("history_span", "warning", false, nil, "历史的时间范围未能读取："+err.Error(), "the span of history cannot be read: "+err.Error())
		return
	}
	facts := map[string]any{}
	var texts []string
	for _, s := range spans {
		facts[s.Namespace] = map[string]any{"oldest": s.Oldest, "newest": s.Newest, "runs": s.Runs}
		if len(texts) < manyNamespaces {
			texts = append(texts, fmt.Sprintf("%s %s – %s", s.Namespace, localTime(s.Oldest), localTime(s.Newest)))
		}
	}
	if more := len(spans) - len(texts); more > 0 {
		texts = append(texts, fmt.Sprintf("… (+%d)", more))
	}
	if len(texts) == 0 {
		say("history_span", "info", true, facts, "还没有已结束的运行", "no run has ended yet")
		return
	}
	all := strings.Join(texts, "; ")
	say("history_span", "info", true, facts, "历史的时间范围："+all, "history has runs of "+all)
}

func localTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }
