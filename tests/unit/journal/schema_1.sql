BEGIN TRANSACTION;
CREATE TABLE approval (
	run_id TEXT NOT NULL, 
	seq INTEGER NOT NULL, 
	n INTEGER NOT NULL, 
	decision TEXT NOT NULL, 
	"by" TEXT NOT NULL, 
	plan_digest TEXT NOT NULL, 
	signature TEXT, 
	at TEXT NOT NULL, 
	expires_at TEXT, 
	PRIMARY KEY (run_id, seq, n), 
	FOREIGN KEY(run_id) REFERENCES run (id)
);
INSERT INTO "approval" VALUES('run-1',2,1,'approve','grace','sha256:00',NULL,'2026-11-24T12:00:00.013Z',NULL);
INSERT INTO "approval" VALUES('run-3',1,1,'reject','grace','sha256:00',NULL,'2026-11-24T12:00:00.058Z',NULL);
CREATE TABLE attempt (
	run_id TEXT NOT NULL, 
	seq INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	fence BIGINT NOT NULL, 
	intent_at TEXT NOT NULL, 
	intent_at_ns BIGINT NOT NULL, 
	outcome TEXT, 
	reason TEXT NOT NULL, 
	duration_ms INTEGER NOT NULL, 
	PRIMARY KEY (run_id, seq, number), 
	FOREIGN KEY(run_id, seq) REFERENCES step (run_id, seq)
);
INSERT INTO "attempt" VALUES('run-1',1,1,1795521600001,'2026-11-24T12:00:00.004Z',1795672327103198371,'changed','',3);
INSERT INTO "attempt" VALUES('run-1',2,1,1795521600014,'2026-11-24T12:00:00.016Z',1795672327175110363,'ok','',3);
INSERT INTO "attempt" VALUES('run-1',3,1,1795521600014,'2026-11-24T12:00:00.021Z',1795672327190535087,'unknown','interrupted',0);
INSERT INTO "attempt" VALUES('run-1',3,2,1795521600024,'2026-11-24T12:00:00.027Z',1795672327211708022,'failed','it broke',3);
INSERT INTO "attempt" VALUES('run-1',4,1,1795521600024,'2026-11-24T12:00:00.032Z',1795672327223101661,'ok','',3);
INSERT INTO "attempt" VALUES('run-2',1,1,1795521600040,'2026-11-24T12:00:00.043Z',1795672327246796014,'ok','',3);
INSERT INTO "attempt" VALUES('run-4',1,1,1795521600060,'2026-11-24T12:00:00.063Z',1795672327311195724,'failed','it broke',3);
INSERT INTO "attempt" VALUES('run-4',2,1,1795521600060,'2026-11-24T12:00:00.068Z',1795672327322565679,'failed','it broke',3);
INSERT INTO "attempt" VALUES('run-5',1,1,1795521600076,'2026-11-24T12:00:00.079Z',1795672327345497528,NULL,'',0);
INSERT INTO "attempt" VALUES('roll-1',1,1,99,'2026-11-24T12:00:00.081Z',1795521600081000192,'changed','',200);
CREATE TABLE environment (
	name TEXT NOT NULL, 
	fence BIGINT NOT NULL, 
	run_id TEXT, 
	holder TEXT, 
	doing TEXT, 
	since TEXT, 
	until TEXT, 
	broken_run_id TEXT, 
	PRIMARY KEY (name)
);
INSERT INTO "environment" VALUES('lab',1795521600076,'run-5','vm:e0adb34d:20715:2760934','runbook deploy','2026-11-24T12:00:00.076Z','2026-11-24T12:00:30.080Z',NULL);
INSERT INTO "environment" VALUES('other',1795521600060,NULL,NULL,NULL,NULL,NULL,'run-4');
CREATE TABLE record (
	n INTEGER NOT NULL, 
	run_id TEXT NOT NULL, 
	at TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	body JSON NOT NULL, 
	previous TEXT NOT NULL, 
	sha256 TEXT NOT NULL, 
	PRIMARY KEY (n)
);
INSERT INTO "record" VALUES(1,'run-1','2026-11-24T12:00:00.003Z','run','{"environment": "lab", "runbook": "deploy", "plan_digest": "sha256:00", "by": "ada", "fence": 1795521600001}','sha256:0000000000000000000000000000000000000000000000000000000000000000','sha256:72467f7c07c58c40ae1bbdb53c342b5888ee4c20ba7a9bc1ab4c136442426fc7');
INSERT INTO "record" VALUES(2,'run-1','2026-11-24T12:00:00.006Z','intent','{"seq": 1, "attempt": 1, "fence": 1795521600001}','sha256:72467f7c07c58c40ae1bbdb53c342b5888ee4c20ba7a9bc1ab4c136442426fc7','sha256:eba4f299207ecc4982612e8872ee8e5364e96f09862fa6a1c6bfc2cb87d88ef3');
INSERT INTO "record" VALUES(3,'run-1','2026-11-24T12:00:00.008Z','outcome','{"seq": 1, "attempt": 1, "outcome": "changed", "reason": "", "outputs": "sha256:90ee3ce6715f9b656de39d90d30f505d993c93141427d71100983f2c6469a8e8", "results": "sha256:138c9863873454c10b56194698256ae77d3e852e811ab55eedbad998a8944c9e", "undo": []}','sha256:eba4f299207ecc4982612e8872ee8e5364e96f09862fa6a1c6bfc2cb87d88ef3','sha256:badde04171764e5e80031cfa4575c0270a222fae8ff55909c540e9d2061fa0dc');
INSERT INTO "record" VALUES(4,'run-1','2026-11-24T12:00:00.010Z','step','{"seq": 2, "state": "waiting", "why": "approval"}','sha256:badde04171764e5e80031cfa4575c0270a222fae8ff55909c540e9d2061fa0dc','sha256:1fdd856eba1998251475581e3cc6a8de4aaa0d3653e909f3936a4373474b8576');
INSERT INTO "record" VALUES(5,'run-1','2026-11-24T12:00:00.012Z','end','{"state": "waiting", "exit_code": 6, "reason": "approval"}','sha256:1fdd856eba1998251475581e3cc6a8de4aaa0d3653e909f3936a4373474b8576','sha256:1553a097241e9803cf54431f3073d27ed425209859618ac95c42474bdac207f0');
INSERT INTO "record" VALUES(6,'run-1','2026-11-24T12:00:00.013Z','approval','{"seq": 2, "decision": "approve", "by": "grace", "plan_digest": "sha256:00", "signature": null, "expires_at": null}','sha256:1553a097241e9803cf54431f3073d27ed425209859618ac95c42474bdac207f0','sha256:1bc5d0217a4bcdb92ba1f44690baf75a33b3b098b136d18e71beeadbaec749a5');
INSERT INTO "record" VALUES(7,'run-1','2026-11-24T12:00:00.015Z','resume','{"fence": 1795521600014}','sha256:1bc5d0217a4bcdb92ba1f44690baf75a33b3b098b136d18e71beeadbaec749a5','sha256:8d1234725c0d20d51182e551b14d3d7ce2c812d3ae4a6ec727cfeef8ee865d38');
INSERT INTO "record" VALUES(8,'run-1','2026-11-24T12:00:00.018Z','intent','{"seq": 2, "attempt": 1, "fence": 1795521600014}','sha256:8d1234725c0d20d51182e551b14d3d7ce2c812d3ae4a6ec727cfeef8ee865d38','sha256:f6de18828e19584b8c9944356bf109102ca8921ddaf8c0c45551f9b31a1006b4');
INSERT INTO "record" VALUES(9,'run-1','2026-11-24T12:00:00.020Z','outcome','{"seq": 2, "attempt": 1, "outcome": "ok", "reason": "", "outputs": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "results": "sha256:4fcaeb071f083aa459391e2c3eacf48ee351611e3881b09c06040a3beef64613", "undo": []}','sha256:f6de18828e19584b8c9944356bf109102ca8921ddaf8c0c45551f9b31a1006b4','sha256:9758938f7e4d8844f2aaf31562f08c13f24140570e8605d3a4cfae339d0bdac9');
INSERT INTO "record" VALUES(10,'run-1','2026-11-24T12:00:00.023Z','intent','{"seq": 3, "attempt": 1, "fence": 1795521600014}','sha256:9758938f7e4d8844f2aaf31562f08c13f24140570e8605d3a4cfae339d0bdac9','sha256:a353ebcbfaba83939f9d42af072365e7dbbeec860ed4614dd2009605876e47a7');
INSERT INTO "record" VALUES(11,'run-1','2026-11-24T12:00:00.026Z','resume','{"fence": 1795521600024}','sha256:a353ebcbfaba83939f9d42af072365e7dbbeec860ed4614dd2009605876e47a7','sha256:11f4964c43f74f703859795e59f4e6eabc2d71bed56a22ece4e0c15f9ba2345e');
INSERT INTO "record" VALUES(12,'run-1','2026-11-24T12:00:00.029Z','intent','{"seq": 3, "attempt": 2, "fence": 1795521600024}','sha256:11f4964c43f74f703859795e59f4e6eabc2d71bed56a22ece4e0c15f9ba2345e','sha256:28b99f9429ec14e436ac7346b2d974c9464aa8834777a453ac1bfd1b830aef12');
INSERT INTO "record" VALUES(13,'run-1','2026-11-24T12:00:00.031Z','outcome','{"seq": 3, "attempt": 2, "outcome": "failed", "reason": "it broke", "outputs": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "results": "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945", "undo": ["undo one"]}','sha256:28b99f9429ec14e436ac7346b2d974c9464aa8834777a453ac1bfd1b830aef12','sha256:9bdabc53c2168ba39808132159851bceaf712d645b6836c116f2c9d2e0d8a1cb');
INSERT INTO "record" VALUES(14,'run-1','2026-11-24T12:00:00.034Z','intent','{"seq": 4, "attempt": 1, "fence": 1795521600024}','sha256:9bdabc53c2168ba39808132159851bceaf712d645b6836c116f2c9d2e0d8a1cb','sha256:6b9a4a8280a513d1915209c3419fbaee8a95a274574bc7eff9aa9ff7afde4a5f');
INSERT INTO "record" VALUES(15,'run-1','2026-11-24T12:00:00.036Z','outcome','{"seq": 4, "attempt": 1, "outcome": "ok", "reason": "", "outputs": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "results": "sha256:4fcaeb071f083aa459391e2c3eacf48ee351611e3881b09c06040a3beef64613", "undo": []}','sha256:6b9a4a8280a513d1915209c3419fbaee8a95a274574bc7eff9aa9ff7afde4a5f','sha256:2d7cc1887c2997fdabc91718a276df7c1cae08408afc8acb7de1ee7473297187');
INSERT INTO "record" VALUES(16,'run-1','2026-11-24T12:00:00.039Z','end','{"state": "rolled_back", "exit_code": 5, "reason": "step two: it broke"}','sha256:2d7cc1887c2997fdabc91718a276df7c1cae08408afc8acb7de1ee7473297187','sha256:7af3101ee80f4cf1610d21298793c2e0b5cc12f9133881bcaf2cc0a8ac635017');
INSERT INTO "record" VALUES(17,'run-2','2026-11-24T12:00:00.042Z','run','{"environment": "lab", "runbook": "deploy", "plan_digest": "sha256:00", "by": "ada", "fence": 1795521600040}','sha256:7af3101ee80f4cf1610d21298793c2e0b5cc12f9133881bcaf2cc0a8ac635017','sha256:3ef18cfa566731508873760a623752ee045582abb9990338f4df1f0b13338848');
INSERT INTO "record" VALUES(18,'run-2','2026-11-24T12:00:00.045Z','intent','{"seq": 1, "attempt": 1, "fence": 1795521600040}','sha256:3ef18cfa566731508873760a623752ee045582abb9990338f4df1f0b13338848','sha256:7f5a2316ee07e5eb4fd1cc26052c2a950657ff4ae0fc57d6caba45ed85455861');
INSERT INTO "record" VALUES(19,'run-2','2026-11-24T12:00:00.047Z','outcome','{"seq": 1, "attempt": 1, "outcome": "ok", "reason": "", "outputs": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "results": "sha256:4fcaeb071f083aa459391e2c3eacf48ee351611e3881b09c06040a3beef64613", "undo": []}','sha256:7f5a2316ee07e5eb4fd1cc26052c2a950657ff4ae0fc57d6caba45ed85455861','sha256:44348d83672ccdb1d35e25cafb5dc80edb133742b32fccb255e42770abd6eb1a');
INSERT INTO "record" VALUES(20,'run-2','2026-11-24T12:00:00.050Z','end','{"state": "done", "exit_code": 0, "reason": ""}','sha256:44348d83672ccdb1d35e25cafb5dc80edb133742b32fccb255e42770abd6eb1a','sha256:8dce9c9a843f9ab1b2421b70b9146b3af53d3a707fab2ccb3da4219dedace4ab');
INSERT INTO "record" VALUES(21,'run-3','2026-11-24T12:00:00.053Z','run','{"environment": "lab", "runbook": "deploy", "plan_digest": "sha256:00", "by": "ada", "fence": 1795521600051}','sha256:8dce9c9a843f9ab1b2421b70b9146b3af53d3a707fab2ccb3da4219dedace4ab','sha256:efe2253b83f702bef1d34bd0f63350bc9d8a994c129d49b7045d841e6e6131b4');
INSERT INTO "record" VALUES(22,'run-3','2026-11-24T12:00:00.055Z','step','{"seq": 1, "state": "waiting", "why": "approval"}','sha256:efe2253b83f702bef1d34bd0f63350bc9d8a994c129d49b7045d841e6e6131b4','sha256:b5c46016d67c1cfa6be6f4338ff38888482225c183e8fb5fa8b475208bd8cccc');
INSERT INTO "record" VALUES(23,'run-3','2026-11-24T12:00:00.057Z','end','{"state": "waiting", "exit_code": 6, "reason": "approval"}','sha256:b5c46016d67c1cfa6be6f4338ff38888482225c183e8fb5fa8b475208bd8cccc','sha256:e6c0073725c420a218a7beafedbbc68a19fa5ba3677cb194cdd50b0c4aab4e33');
INSERT INTO "record" VALUES(24,'run-3','2026-11-24T12:00:00.058Z','approval','{"seq": 1, "decision": "reject", "by": "grace", "plan_digest": "sha256:00", "signature": null, "expires_at": null}','sha256:e6c0073725c420a218a7beafedbbc68a19fa5ba3677cb194cdd50b0c4aab4e33','sha256:72cf8059262d57a66869141c0e6527205e63ebe7ccbb821c7755fb2ab9dc7874');
INSERT INTO "record" VALUES(25,'run-3','2026-11-24T12:00:00.059Z','abandon','{"by": "ada", "reason": "no longer wanted"}','sha256:72cf8059262d57a66869141c0e6527205e63ebe7ccbb821c7755fb2ab9dc7874','sha256:d13e41ed37867acbcfe060919972c570f24eab0c0e84f56d4aec65f47094fd68');
INSERT INTO "record" VALUES(26,'run-4','2026-11-24T12:00:00.062Z','run','{"environment": "other", "runbook": "deploy", "plan_digest": "sha256:00", "by": "ada", "fence": 1795521600060}','sha256:d13e41ed37867acbcfe060919972c570f24eab0c0e84f56d4aec65f47094fd68','sha256:7cb43b1abbd3663fa6d95a98d18b03292d892dd29e46b3f6a3e1bfd3e24784ba');
INSERT INTO "record" VALUES(27,'run-4','2026-11-24T12:00:00.065Z','intent','{"seq": 1, "attempt": 1, "fence": 1795521600060}','sha256:7cb43b1abbd3663fa6d95a98d18b03292d892dd29e46b3f6a3e1bfd3e24784ba','sha256:ef88b3ee38ecb4fd3c288bd04ed33c1cb277619d550218e2f5e989e651de2090');
INSERT INTO "record" VALUES(28,'run-4','2026-11-24T12:00:00.067Z','outcome','{"seq": 1, "attempt": 1, "outcome": "failed", "reason": "it broke", "outputs": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "results": "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945", "undo": ["undo bad"]}','sha256:ef88b3ee38ecb4fd3c288bd04ed33c1cb277619d550218e2f5e989e651de2090','sha256:11247325f83d4557ecab2d0aae25e3d5ac736f1e8aebf9721d795f6027dd0adc');
INSERT INTO "record" VALUES(29,'run-4','2026-11-24T12:00:00.070Z','intent','{"seq": 2, "attempt": 1, "fence": 1795521600060}','sha256:11247325f83d4557ecab2d0aae25e3d5ac736f1e8aebf9721d795f6027dd0adc','sha256:2c7545675b33c86f9b55e71d453cd83ff8db3fa4404db0abcf183b4225162ccd');
INSERT INTO "record" VALUES(30,'run-4','2026-11-24T12:00:00.072Z','outcome','{"seq": 2, "attempt": 1, "outcome": "failed", "reason": "it broke", "outputs": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "results": "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945", "undo": []}','sha256:2c7545675b33c86f9b55e71d453cd83ff8db3fa4404db0abcf183b4225162ccd','sha256:aa121bf8ccc8f2a536ebf2e8ce97d57e57cdf40386054483dae52e1b9da293a9');
INSERT INTO "record" VALUES(31,'run-4','2026-11-24T12:00:00.075Z','end','{"state": "broken", "exit_code": 7, "reason": "step bad: it broke; undo bad failed too: it broke"}','sha256:aa121bf8ccc8f2a536ebf2e8ce97d57e57cdf40386054483dae52e1b9da293a9','sha256:2a583857f0e407332b16a86e4cf10f20e5bdf12a4b2c64fe188fb3d8a2263179');
INSERT INTO "record" VALUES(32,'run-5','2026-11-24T12:00:00.078Z','run','{"environment": "lab", "runbook": "deploy", "plan_digest": "sha256:00", "by": "ada", "fence": 1795521600076}','sha256:2a583857f0e407332b16a86e4cf10f20e5bdf12a4b2c64fe188fb3d8a2263179','sha256:877c936486ff7d22f8e29fe5082b7bb497130daa504f7c45607daa4681987239');
INSERT INTO "record" VALUES(33,'run-5','2026-11-24T12:00:00.081Z','intent','{"seq": 1, "attempt": 1, "fence": 1795521600076}','sha256:877c936486ff7d22f8e29fe5082b7bb497130daa504f7c45607daa4681987239','sha256:a4d3584fea5ab813be809c6e6ae82913654d291841afd462feddb4524dd39de1');
INSERT INTO "record" VALUES(34,'roll-1','2026-11-24T12:00:00.082Z','absorbed','{"environment": "other", "runbook": "rollback", "plan_digest": "sha256:1", "state": "done", "exit_code": 0, "reason": "", "fence": 99, "by": "ada", "seq": 1, "attempt": 1, "outcome": "changed", "results": "sha256:834f4b1a1e8babbaf9c38b044e7f91de8c1c140df9d213c174e3611d61954ac8", "outputs": "sha256:defe60a11fc6d82211e1084d2c23de8c9ce347e75b7d02e977b430b5b0353b33"}','sha256:a4d3584fea5ab813be809c6e6ae82913654d291841afd462feddb4524dd39de1','sha256:274ab8094981bf3e600875cc3c572730a08f39483d6836ac96f4bfad1ba38c3f');
CREATE TABLE result (
	run_id TEXT NOT NULL, 
	seq INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	n INTEGER NOT NULL, 
	host TEXT NOT NULL, 
	task TEXT NOT NULL, 
	outcome TEXT NOT NULL, 
	message TEXT NOT NULL, 
	duration_ms INTEGER NOT NULL, 
	ignored BOOLEAN NOT NULL, 
	PRIMARY KEY (run_id, seq, attempt, n), 
	FOREIGN KEY(run_id, seq, attempt) REFERENCES attempt (run_id, seq, number)
);
INSERT INTO "result" VALUES('run-1',1,1,1,'h','t','changed','',7,0);
INSERT INTO "result" VALUES('run-1',2,1,1,'h','t','ok','',0,0);
INSERT INTO "result" VALUES('run-1',4,1,1,'h','t','ok','',0,0);
INSERT INTO "result" VALUES('run-2',1,1,1,'h','t','ok','',0,0);
INSERT INTO "result" VALUES('roll-1',1,1,1,'h','activate','changed','',5,0);
CREATE TABLE run (
	id TEXT NOT NULL, 
	environment TEXT NOT NULL, 
	runbook TEXT NOT NULL, 
	state TEXT NOT NULL, 
	plan_digest TEXT NOT NULL, 
	snapshot TEXT NOT NULL, 
	parameters JSON NOT NULL, 
	requested_by TEXT NOT NULL, 
	started_at TEXT NOT NULL, 
	ended_at TEXT, 
	exit_code INTEGER, 
	reason TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "run" VALUES('run-1','lab','deploy','rolled_back','sha256:00','/nowhere','{"release": "r1"}','ada','2026-11-24T12:00:00.002Z','2026-11-24T12:00:00.037Z',5,'step two: it broke');
INSERT INTO "run" VALUES('run-2','lab','deploy','done','sha256:00','/nowhere','{"release": "r1"}','ada','2026-11-24T12:00:00.041Z','2026-11-24T12:00:00.048Z',0,'');
INSERT INTO "run" VALUES('run-3','lab','deploy','abandoned','sha256:00','/nowhere','{"release": "r1"}','ada','2026-11-24T12:00:00.052Z','2026-11-24T12:00:00.059Z',1,'abandoned by ada: no longer wanted');
INSERT INTO "run" VALUES('run-4','other','deploy','broken','sha256:00','/nowhere','{"release": "r1"}','ada','2026-11-24T12:00:00.061Z','2026-11-24T12:00:00.073Z',7,'step bad: it broke; undo bad failed too: it broke');
INSERT INTO "run" VALUES('run-5','lab','deploy','running','sha256:00','/nowhere','{"release": "r1"}','ada','2026-11-24T12:00:00.077Z',NULL,NULL,'');
INSERT INTO "run" VALUES('roll-1','other','rollback','done','sha256:1','','{}','ada','2026-11-24T12:00:00.081Z','2026-11-24T12:00:00.081Z',0,'');
CREATE TABLE schema (
	version INTEGER NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "schema" VALUES(1);
CREATE TABLE step (
	run_id TEXT NOT NULL, 
	seq INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	spec JSON NOT NULL, 
	state TEXT NOT NULL, 
	outputs JSON NOT NULL, 
	undo_of INTEGER, 
	PRIMARY KEY (run_id, seq), 
	FOREIGN KEY(run_id) REFERENCES run (id)
);
INSERT INTO "step" VALUES('run-1',1,'one','play','{"name": "one", "kind": "play", "hosts": "all", "body": "- name: one", "line": 1, "roles": [], "gate": null, "direct": null, "undo": true, "commits": false, "on_interrupt": "probe", "timeout_s": 600.0, "minimum_hosts": null, "minimum_checks": 1}','done','{"slot": "green", "n": 1.5}',NULL);
INSERT INTO "step" VALUES('run-1',2,'gate','gate','{"name": "gate", "kind": "gate", "hosts": "all", "body": "- name: gate", "line": 1, "roles": [], "gate": "approval", "direct": null, "undo": false, "commits": false, "on_interrupt": "probe", "timeout_s": 600.0, "minimum_hosts": null, "minimum_checks": 1}','done','{}',NULL);
INSERT INTO "step" VALUES('run-1',3,'two','play','{"name": "two", "kind": "play", "hosts": "all", "body": "- name: two", "line": 1, "roles": [], "gate": null, "direct": null, "undo": false, "commits": false, "on_interrupt": "probe", "timeout_s": 600.0, "minimum_hosts": null, "minimum_checks": 1}','failed','{}',NULL);
INSERT INTO "step" VALUES('run-1',4,'undo one','undo','{"name": "undo one", "kind": "undo", "hosts": "all", "body": "- name: undo one", "line": 1, "roles": [], "gate": null, "direct": null, "undo": false, "commits": false, "on_interrupt": "probe", "timeout_s": 600.0, "minimum_hosts": 1, "minimum_checks": 1}','done','{}',1);
INSERT INTO "step" VALUES('run-2',1,'only','play','{"name": "only", "kind": "play", "hosts": "all", "body": "- name: only", "line": 1, "roles": [], "gate": null, "direct": null, "undo": false, "commits": false, "on_interrupt": "probe", "timeout_s": 600.0, "minimum_hosts": null, "minimum_checks": 1}','done','{}',NULL);
INSERT INTO "step" VALUES('run-3',1,'gate','gate','{"name": "gate", "kind": "gate", "hosts": "all", "body": "- name: gate", "line": 1, "roles": [], "gate": "approval", "direct": null, "undo": false, "commits": false, "on_interrupt": "probe", "timeout_s": 600.0, "minimum_hosts": null, "minimum_checks": 1}','waiting','{}',NULL);
INSERT INTO "step" VALUES('run-4',1,'bad','play','{"name": "bad", "kind": "play", "hosts": "all", "body": "- name: bad", "line": 1, "roles": [], "gate": null, "direct": null, "undo": true, "commits": false, "on_interrupt": "probe", "timeout_s": 600.0, "minimum_hosts": null, "minimum_checks": 1}','failed','{}',NULL);
INSERT INTO "step" VALUES('run-4',2,'undo bad','undo','{"name": "undo bad", "kind": "undo", "hosts": "all", "body": "- name: undo bad", "line": 1, "roles": [], "gate": null, "direct": null, "undo": false, "commits": false, "on_interrupt": "probe", "timeout_s": 600.0, "minimum_hosts": 1, "minimum_checks": 1}','failed','{}',1);
INSERT INTO "step" VALUES('run-5',1,'killed','play','{"name": "killed", "kind": "play", "hosts": "all", "body": "- name: killed", "line": 1, "roles": [], "gate": null, "direct": null, "undo": false, "commits": false, "on_interrupt": "probe", "timeout_s": 600.0, "minimum_hosts": null, "minimum_checks": 1}','running','{}',NULL);
INSERT INTO "step" VALUES('roll-1',1,'rollback','play','{"name": "rollback", "kind": "play", "hosts": "fronts", "body": "", "line": 0, "roles": [], "gate": null, "direct": "rollback", "undo": false, "commits": false, "on_interrupt": "probe", "timeout_s": 600.0, "minimum_hosts": null, "minimum_checks": 1}','done','{"release": "r1"}',NULL);
CREATE INDEX run_by_environment ON run (environment, started_at);
CREATE INDEX record_by_run ON record (run_id, n);
COMMIT;
