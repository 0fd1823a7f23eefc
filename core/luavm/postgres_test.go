package luavm_test

import (
	"database/sql"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/luavm"
	"github.com/gnomon-scheduler/gnomon/core/store/storetest"
	"github.com/gnomon-scheduler/gnomon/sdk"
	"github.com/gnomon-scheduler/gnomon/sdk/sdktest"
)

func TestScriptsRunOnPostgreSQLToo(t *testing.T) {
	t.Parallel()
	server, err := storetest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	dsn := server.DSN("postgres")
	if !strings.HasPrefix(dsn, "postgres://") {
		t.Fatalf("the test server's DSN has changed its form: %s", dsn)
	}
	schema, err := os.ReadFile("../../deploy/demo/hospital/schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	joint := "?"
	if strings.Contains(dsn, "?") {
		joint = "&"
	}
	db, err := sql.Open("pgx", dsn+joint+"default_query_exec_mode=simple_protocol") // takes several statements at once
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), string(schema)+`;
		insert into duty_doctor (service_center, doctor_id) values ('C1', 'A');
		insert into ecg_task (id, patient_id, service_center, state, created_at, claimed_by, claimed_at, write_deadline, assigned_to, assigned_at, updated_at) values
			(1, 'P1', 'C1', 'claimed', 0, 'D', 1, null, null, null, 0), (2, 'P2', 'C1', 'writing', 0, 'D', 1, 1, null, null, 0), (3, 'P3', 'C1', 'assigned', 0, 'D', 1, 1, 'A', 1, 0);
		insert into number_source (id, org_id, department, doctor, clinic_date, slot, starts_at, state, reserved_by, reserved_at, reserved_until, updated_at) values
			(1, 1, 'x', 'D', '2026-11-20', '09:00', 1, 'reserved', 'P', 0, 1, 0);
		insert into observation_request (id, org_id, accession_no, patient_id, modality, image_count, examined_at, updated_at) values (1, 1, 'A1', 'P1', 'CT', 3, 0, 0);
		insert into exam_check_data values (1, 'A1', 'P1', 'CT', 4, 0);
		insert into org_storage_policy values (1, 30, 1);
		insert into document (id, org_id, path, size_bytes, created_at) values (1, 1, 'a', 5, 0);`); err != nil {
		t.Fatal(err)
	}
	grants := map[string]string{"sql:business": dsn}
	serve := func(dir, namespace string) *sdktest.Host {
		w, err := luavm.New(luavm.Options{Dir: dir, Namespace: namespace})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
		return sdktest.Start(t, sdk.Plugin{Name: "lua", Version: "1.0.0", Source: w})
	}
	for typ, want := range map[string]string{
		"Telemedicine.ECGTimeoutFallbackTask":          `{"assigned":1,"fallen_back":1,"released":1,"without_duty_doctor":0}`,
		"OperationManage.ReserveNumberSourceRecycling": `{"freed":0,"more":false,"withdrawn":1}`,
		"ImageArchive.DataVerifyService":               `{"differing":1,"opened":1,"resolved":0,"verified":1}`,
		"ImageArchive.StorageDeletionService":          `{"bytes":5,"marked":1,"more":false}`,
	} {
		namespace, _, _ := strings.Cut(typ, ".")
		r := serve("../../scripts", namespace).Run(t.Context(), sdktest.Attempt{Type: typ, Grants: grants})
		if string(r.Output) != want {
			t.Errorf("%s: %s %s, want %s", typ, r.Output, r.Message, want)
		}
	}
	h := serve(scriptFolder(t, map[string]string{
		"T.lua": script(`
			local r = sql.query("business", "select ?::text as a, ?::bigint as b, true as c, null as d, timestamptz '2026-11-20 00:00:00+00' as e, 1.5::float8 as f",
				"o'x?", 2^53)[1]
			local done = sql.exec("business", "update document set path = ? where id = ?", "b", 1)
			return { r, done, pcall(sql.query, "business", "select 1/0") }`, `needs = {"sql:business"}`),
		"Slow.lua": script(`sql.query("business", "select pg_sleep(60)")`, `needs = {"sql:business"}`),
	}), "Ns")
	r := h.Run(t.Context(), sdktest.Attempt{Type: "Ns.T", Grants: grants})
	const want = `[{"a":"o'x?","b":9007199254740992,"c":true,"e":1795132800000,"f":1.5},{"affected":1},false,"Ns/T.lua:6: sql \"business\": ERROR: division by zero`
	if !strings.HasPrefix(string(r.Output), want) {
		t.Errorf("%s %s", r.Output, r.Message)
	}
	began := time.Now()
	if r := h.Run(t.Context(), sdktest.Attempt{Type: "Ns.Slow", Grants: grants, TimeLimit: 200 * time.Millisecond}); r.Verdict != sdktest.Cancelled {
		t.Errorf("a slow statement ended %s %s", r.Verdict, r.Message)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("a slow statement was cancelled after %v", took)
	}
}
