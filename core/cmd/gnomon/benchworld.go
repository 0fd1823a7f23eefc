package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// benchTask is one task of a made-up year: what facts.sql draws its fires and runs from.
type benchTask struct {
	Number      int     `json:"number"`
	Namespace   string  `json:"namespace"`
	Task        string  `json:"task"`
	TaskType    string  `json:"task_type"`
	TaskID      string  `json:"task_id"`
	PeriodS     int64   `json:"period_s"` // seconds from fire to fire; 0: see Months
	Months      int     `json:"months"`
	FirstAt     int64   `json:"first_at"` // first fire, Unix seconds
	ChangedAt   int64   `json:"changed_at"`
	Workdays    bool    `json:"workdays"` // fires of Saturdays and Sundays are skipped
	OverlapP    float64 `json:"overlap_p"`
	MedianUS    float64 `json:"median_us"` // of the duration, which is log-normal
	Sigma       float64 `json:"sigma"`
	FailP       float64 `json:"fail_p"`
	MaxAttempts int     `json:"max_attempts"`
	Downstream  int     `json:"downstream"` // what its outages hit
	RegressedAt int64   `json:"regressed_at"`
	RegressedBy float64 `json:"regressed_by"`
	CPUShare    float64 `json:"cpu_share"`
	CPUSource   string  `json:"cpu_source"`
	RSSBytes    float64 `json:"rss_bytes"`
	IOBytes     float64 `json:"io_bytes"`
	HasOutput   bool    `json:"has_output"`
	Params      string  `json:"params"`
	Spec        string  `json:"spec"`
	Title       string  `json:"title"`
	Server      string  `json:"server"` // id of the one that runs it
	Host        string  `json:"host"`
	Plugin      string  `json:"plugin"` // whose process carries its attempts, or lua-worker
	Version     string  `json:"plugin_version"`
	Worker      string  `json:"worker"` // namespace of the Lua worker, else empty
	PID         uint32  `json:"pid"`    // of that process
}

// benchServers are the servers of a made-up year, each with its machine.
var benchServers = []struct{ id, host string }{
	{"0198c0de-1111-7000-8000-000000000001", "gnomon-1"}, {"0198c0de-2222-7000-8000-000000000002", "gnomon-2"},
}

// carried sets which process carries a task's attempts: three namespaces are in Lua, two have plugins of their own.
func (t *benchTask) carried() {
	server := benchServers[t.Number%len(benchServers)]
	t.Server, t.Host = server.id, server.host
	switch t.Namespace {
	case "Telemedicine", "MedicalEducation", "Commerce":
		t.Plugin, t.Version, t.Worker = "lua-worker", "1.0.0", t.Namespace
	case "ImageArchive":
		t.Plugin, t.Version = "imagearchive", "2.1.3"
	case "Monitor":
		t.Plugin, t.Version = "monitor", "1.0.8"
	default:
		t.Plugin, t.Version = "common", "1.4.0"
	}
	t.PID = 4000
	for _, letter := range []byte(t.Plugin + t.Worker) {
		t.PID = (t.PID*31+uint32(letter))%28000 + 4000
	}
}

// columns of bench.tasks, in the words of ClickHouse.
const createBenchTasks = `CREATE TABLE bench.tasks
(
    number UInt32, namespace LowCardinality(String), task LowCardinality(String), task_type LowCardinality(String), task_id LowCardinality(String),
    period_s Int64, months UInt8, first_at UInt32, changed_at UInt32, workdays Bool, overlap_p Float64, median_us Float64, sigma Float64, fail_p Float64,
    max_attempts UInt16, downstream UInt8, regressed_at UInt32, regressed_by Float64, cpu_share Float64, cpu_source LowCardinality(String),
    rss_bytes Float64, io_bytes Float64, has_output Bool, params String, spec String, title String,
    server LowCardinality(String), host LowCardinality(String), plugin LowCardinality(String), plugin_version LowCardinality(String), worker LowCardinality(String), pid UInt32
)
ENGINE = MergeTree ORDER BY (namespace, task)`

// createBenchTrees is what the attempts that a process tree carried used in each hour; the tree has used that and more.
const createBenchTrees = `CREATE TABLE bench.tree_hours
(
    server LowCardinality(String), plugin LowCardinality(String), worker LowCardinality(String), hour UInt32, attempts Float64, cpu_us Float64,
    rss_byte_s Float64, read_bytes Float64, write_bytes Float64
)
ENGINE = MergeTree ORDER BY hour`

// kindOfWork is a task type of the sample systems, a hospital's and a factory's, with the rhythms it is found in.
type kindOfWork struct{ name, title string }

var kindsOfWork = []kindOfWork{
	{"Common.KeepAlive", "保持所有 Web 网站活跃"}, {"Common.Email", "邮件队列发送任务"}, {"Common.SMSFailRetry", "短信发送失败，重发任务"}, {"Common.GetInfoOfHuaweiVenues", "获取华为会场信息"},
	{"Telemedicine.ECGCrisisReportWarning", "心电危机报告预警"}, {"Telemedicine.ECGTimeoutFallbackTask", "心电任务领取超时回退"}, {"Telemedicine.ImageDiagnosisCrossCloudConsultationApply", "影像诊断跨云朵会诊申请"},
	{"Telemedicine.ImagingDiagnosisOfPulmonaryNoduleDetection", "影像诊断肺结节检测"}, {"Telemedicine.ECGDiagnosisServiceCenterBottomTask", "心电诊断服务中心兜底"}, {"Telemedicine.SynchronizeUserInfo", "同步用户信息"},
	{"Referral.CheckReferralPerformBlacklistTask", "检查转诊预约执行黑名单任务"}, {"Referral.CheckReferralCancelBlacklistTask", "检查转诊预约取消黑名单任务"}, {"Referral.CheckReferralPerformSendTask", "转诊预约待推送任务"},
	{"Referral.CheckReferralPerformSendFailTask", "转诊预约推送失败任务"}, {"Referral.ReferralSynchInPatientPerformanceStatus", "同步住院转诊履约状态"}, {"Referral.ReferralSynchOutPatientPerformanceStatus", "同步门诊转诊履约状态"},
	{"ImageArchive.SMSService", "归档短信服务"}, {"ImageArchive.DataVerifyService", "数据校验服务"}, {"ImageArchive.StorageDeletionService", "存储删除服务"}, {"ImageArchive.DocumentDeletionService", "文件删除服务"},
	{"MedicalEducation.BulkLiveCourseSubscriptionMessage", "群发直播课程订阅消息"}, {"MedicalEducation.BulkVodCourseSubscriptionMessage", "群发点播课程订阅消息"}, {"MedicalEducation.SendSMSBeforeClass", "开课前短信"},
	{"OperationManage.AnnouncementsMessagePush", "公告发布消息推送"}, {"OperationManage.ServiceEndAlert", "服务到期提醒"}, {"OperationManage.ReserveNumberSourceRecycling", "预约号源回收任务"},
	{"Datamining.SubscribeToReportEmailSend", "订阅报告邮件定时发送"},
	{"Monitor.DatabaseStoragePolicy", "数据库存储策略"}, {"Monitor.ServiceHeartbeatStrategy", "服务端心跳策略"}, {"Monitor.ServerPerformanceMonitorPolicy", "服务端性能监控策略"}, {"Monitor.ServerProcessMonitorPolicy", "服务端进程监控策略"},
	{"Monitor.ServerStorageMonitorPolicy", "服务端存储监控策略"}, {"Monitor.SendAlertMessageTask", "发送警告消息任务"},
	{"ProjectHealth.CalculateProjectHealth", "批量更新项目健康度"}, {"ProjectHealth.DailyHealthSnapshot", "项目每日快照"}, {"ProjectHealth.CheckOverdueIssues", "逾期问题预警"}, {"ProjectHealth.CheckBlockingIssues", "阻塞类问题标记"},
	{"ProjectHealth.CheckMilestoneAlerts", "项目里程碑超期检测"}, {"ProjectHealth.CheckCostOverrunAlerts", "项目成本超支检测"}, {"ProjectHealth.CalculateProgressSummary", "进度汇总缓存"},
	{"Production.GenerateShortageAlerts", "缺料预警"}, {"Production.CheckTaskDelayAlerts", "任务延期预警"}, {"Production.CheckWorkReportTimeout", "报工超时提醒"}, {"Production.DailyKitCheck", "每日齐套分析"},
	{"Production.CheckDeliveryDelay", "到货延迟检查"}, {"Production.GenerateProductionDailyReports", "生产日报"}, {"Production.RunECNScheduler", "ECN 超时处理"},
	{"Commerce.CheckPaymentReminder", "收款计划提醒"}, {"Commerce.CheckOverdueReceivableAlerts", "逾期应收预警"}, {"Commerce.CheckAlertEscalation", "预警升级"}, {"Commerce.SendAlertNotifications", "预警通知发送"},
	{"Commerce.CalculateMonthlyLaborCost", "月度工时成本"}, {"Commerce.SalesReminderScan", "销售提醒扫描"}, {"Commerce.CheckEquipmentMaintenanceReminder", "设备保养计划提醒"},
}

// rhythm is how often a class of tasks fires.
type rhythm struct {
	periodS  int64
	months   int
	share    float64 // of all fires of a day that the frequent classes are given
	weight   int     // among the tasks of the slow classes
	medianMS float64 // of durations; tasks lie around it
	spec     string
}

var rhythms = []rhythm{
	{periodS: 1, share: 0.20, medianMS: 12, spec: "@every 1s"},
	{periodS: 10, share: 0.08, medianMS: 60, spec: "@every 10s"},
	{periodS: 60, share: 0.26, medianMS: 250, spec: "* * * * *"},
	{periodS: 300, share: 0.22, medianMS: 800, spec: "*/5 * * * *"},
	{periodS: 900, share: 0.14, medianMS: 1500, spec: "*/15 * * * *"},
	{periodS: 3600, medianMS: 4000, spec: "0 * * * *"}, // what is left
	{periodS: 86400, weight: 70, medianMS: 40_000, spec: "0 2 * * *"},
	{periodS: 7 * 86400, weight: 18, medianMS: 120_000, spec: "0 3 * * 1"},
	{months: 1, weight: 10, medianMS: 300_000, spec: "0 2 1 * *"},
	{months: 12, weight: 2, medianMS: 900_000, spec: "0 4 1 1 *"},
}

// benchWorld is what the year is made of.
type benchWorld struct {
	from, to time.Time
	tasks    []benchTask
	outages  []benchOutage // of a downstream: most runs of several tasks fail
	down     []benchOutage // of Gnomon itself: fires are missed
}

type benchOutage struct {
	downstream int
	from, to   int64
}

const (
	skippedShare = 0.02 // of all fires, about; they become no runs
	downstreams  = 12
)

// newBenchWorld draws tasks that together make about the given number of runs in the days before to.
func newBenchWorld(runs int64, days, tasks int, to time.Time, seed uint64) benchWorld {
	draw := rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))
	to = to.UTC().Truncate(24 * time.Hour)
	w := benchWorld{from: to.AddDate(0, 0, -days), to: to}
	perDay := float64(runs) / float64(days) / (1 - skippedShare)
	var classes []int // of each task
	left := perDay
	for i, r := range rhythms {
		if r.share == 0 {
			continue
		}
		each := 86400 / float64(r.periodS)
		count := int(math.Round(r.share * perDay / each))
		if r.periodS == 1 && count == 0 && perDay > 2.5*each {
			count = 1 // a year without a task that fires each second would be too kind
		}
		count = min(count, int(left*0.8/each))
		left -= float64(count) * each
		classes = append(classes, slices.Repeat([]int{i}, count)...)
	}
	hourly, slow := 5, max(12, tasks-len(classes)-int(left/24))
	for range slow {
		at := draw.IntN(100)
		for i := hourly + 1; i < len(rhythms); i++ {
			if at -= rhythms[i].weight; at < 0 {
				classes = append(classes, i)
				if rhythms[i].periodS > 0 {
					left -= 86400 / float64(rhythms[i].periodS)
				}
				break
			}
		}
	}
	classes = append(classes, slices.Repeat([]int{hourly}, max(0, int(math.Round(left/24))))...)
	for n, class := range classes {
		w.tasks = append(w.tasks, w.task(n, class, draw))
	}
	for d := range downstreams {
		for at := w.from; at.Before(w.to); {
			at = at.Add(time.Duration(draw.ExpFloat64() * float64(10*24*time.Hour)))
			length := time.Duration(5+draw.ExpFloat64()*25) * time.Minute
			w.outages = append(w.outages, benchOutage{d, at.Unix(), at.Add(length).Unix()})
			at = at.Add(length)
		}
	}
	for at := w.from; ; {
		at = at.Add(time.Duration((0.5 + draw.Float64()) * float64(60*24*time.Hour)))
		if !at.Before(w.to) {
			return w
		}
		w.down = append(w.down, benchOutage{0, at.Unix(), at.Add(time.Duration(5+draw.IntN(40)) * time.Minute).Unix()})
	}
}

func (w *benchWorld) task(n, class int, draw *rand.Rand) benchTask {
	kind, r := kindsOfWork[(n*7)%len(kindsOfWork)], rhythms[class]
	namespace, name, _ := strings.Cut(kind.name, ".")
	id, _ := uuid.NewRandomFromReader(drawReader{draw}) // it cannot fail
	t := benchTask{
		Number: n, Namespace: namespace, TaskType: kind.name, TaskID: id.String(), Title: kind.title, Spec: r.spec, PeriodS: r.periodS, Months: r.months,
		Task: fmt.Sprintf("%s-%04d", name, n), ChangedAt: math.MaxUint32, RegressedAt: math.MaxUint32, RegressedBy: 1, CPUSource: "measured",
		MedianUS: r.medianMS * 1000 * math.Exp(draw.NormFloat64()*0.9), Sigma: 0.15 + 0.5*draw.Float64(),
		FailP: []float64{0, 0.0005, 0.001, 0.005, 0.02, 0.08}[min(5, int(draw.ExpFloat64()*1.6))], MaxAttempts: []int{1, 2, 3, 3, 5}[draw.IntN(5)],
		Downstream: draw.IntN(downstreams), CPUShare: []float64{0.02, 0.05, 0.1, 0.3, 0.9}[draw.IntN(5)], RSSBytes: float64(int64(20+draw.ExpFloat64()*60) << 20),
		IOBytes: draw.ExpFloat64() * 4e6, HasOutput: draw.IntN(3) == 0, Params: fmt.Sprintf(`{"site":%d,"batch":100}`, n%300),
	}
	seconds := int64(0)
	switch {
	case r.months > 0 || r.periodS >= 86400: // in the small hours of China, or at its working day's round times
		seconds = int64(draw.IntN(24))*3600 + []int64{0, 0, 0, 300, 600, 900, 1800}[draw.IntN(7)]
		t.Workdays = r.periodS == 86400 && draw.IntN(3) == 0
		t.OverlapP = 0.002
	case r.periodS == 3600:
		seconds = []int64{0, 0, 0, 300, 600, 900, 1800}[draw.IntN(7)]
		t.OverlapP = 0.001
	}
	first := w.from
	switch r.months {
	case 1:
		first = time.Date(first.Year(), first.Month(), 1+draw.IntN(28), 0, 0, 0, 0, time.UTC)
	case 12:
		first = time.Date(first.Year(), time.Month(1+draw.IntN(12)), 1+draw.IntN(28), 0, 0, 0, 0, time.UTC)
	default:
		if r.periodS > 86400 {
			first = first.AddDate(0, 0, draw.IntN(7))
		}
	}
	t.FirstAt = first.Unix() + seconds
	span := w.to.Sub(w.from)
	if draw.IntN(25) == 0 {
		t.RegressedAt, t.RegressedBy = w.to.Add(-time.Duration(draw.Float64()*0.5*float64(span))).Unix(), 1.5+2*draw.Float64()
	}
	if draw.IntN(6) == 0 {
		t.ChangedAt = w.from.Add(time.Duration(draw.Float64() * float64(span))).Unix()
	}
	if draw.IntN(5) == 0 {
		t.CPUSource = "shared"
	}
	t.carried()
	return t
}

// drawReader gives bytes of a seeded generator.
type drawReader struct{ draw *rand.Rand }

func (d drawReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(d.draw.Uint32())
	}
	return len(p), nil
}

// within gives the condition on downstream and s that some outage of a stretch of time holds.
func within(outages []benchOutage, from, to int64, ofDownstream bool) string {
	var all []string
	for _, o := range outages {
		if o.to <= from || o.from >= to {
			continue
		}
		condition := fmt.Sprintf("s >= %d AND s < %d", o.from, o.to)
		if ofDownstream {
			condition = fmt.Sprintf("downstream = %d AND %s", o.downstream, condition)
		}
		all = append(all, condition)
	}
	if len(all) == 0 {
		return "false"
	}
	return "(" + strings.Join(all, " OR ") + ")"
}
