package papers

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/trimtab/trimtab"
)

// BOM returns the model's bill of materials in CycloneDX 1.6 JSON:
//
//	metadata.component    the model with its model card and its files
//	components            models, datasets and tokenizers behind it, and the
//	                      builds of the program that worked on them
//	dependencies          what each of these was made from
//
// The serial number is derived from the model's digest and the time is that of
// the record, so that the same facts give the same bytes.
func BOM(f *Facts) ([]byte, error) {
	b := cdx.NewBOM()
	b.SerialNumber = serialNumber(f.Lineage.Model)
	model := f.component(f.Lineage.Node(f.Lineage.Model))
	model.ModelCard = f.modelCard()
	if files := f.fileComponents(); len(files) > 0 {
		model.Components = &files
	}
	b.Metadata = &cdx.Metadata{
		Timestamp: f.completedAt(),
		Tools: &cdx.ToolsChoice{Components: &[]cdx.Component{{Type: cdx.ComponentTypeApplication, BOMRef: "trimtab",
			Name: "trimtab", PackageURL: purl}}},
		Component: &model,
	}
	components := f.materials()
	b.Components = &components
	dependencies := f.dependencyGraph()
	b.Dependencies = &dependencies
	var out bytes.Buffer
	encoder := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(true)
	err := encoder.EncodeVersion(b, cdx.SpecVersion1_6)
	return ascii(out.Bytes()), err
}

// serialNumber derives a UUID of version 8 (RFC 9562) from a digest.
func serialNumber(d trimtab.Digest) string {
	raw, err := hex.DecodeString(d.Hex())
	// A digest of the record is always long enough.
	if err != nil || len(raw) < 16 {
		raw = make([]byte, 16)
	}
	raw[6] = raw[6]&0x0f | 0x80 // version 8: the bits are the application's
	raw[8] = raw[8]&0x3f | 0x80 // the variant of RFC 9562
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:16])
}

// completedAt returns when the model was finished or imported, or "".
func (f *Facts) completedAt() string {
	var at *time.Time
	if a := f.Lineage.Producer(f.Lineage.Model); a != nil {
		at = a.EndedAt
	} else {
		at = f.Lineage.Node(f.Lineage.Model).Model.ImportedAt
	}
	if at == nil {
		return ""
	}
	return at.UTC().Truncate(time.Second).Format(time.RFC3339)
}

// component returns a node as a component.
func (f *Facts) component(n *Node) cdx.Component {
	c := cdx.Component{BOMRef: string(n.ID), Name: displayName(n), Version: string(n.ID)}
	hash := []cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: n.ID.Hex()}}
	switch n.Kind {
	case NodeModel:
		c.Type, c.Hashes = cdx.ComponentTypeMachineLearningModel, &hash
		c.Properties = properties("trimtab:parameters", strconv.FormatInt(n.Model.Parameters, 10))
	case NodeDataset:
		f.datasetComponent(n, &c)
	case NodeTokenizer:
		c.Type, c.Hashes = cdx.ComponentTypeData, &hash
		c.Data = &[]cdx.ComponentData{{Type: cdx.ComponentDataTypeDefinition,
			Name: "vocabulary and merges of the tokenizer"}}
	}
	return c
}

// displayName returns a node's name, or its short digest if it has none.
func displayName(n *Node) string {
	if n.Name == "" {
		return n.ID.Short()
	}
	return n.Name
}

// datasetComponent fills in a dataset version. Its root is not the hash of a
// file, so it is a property rather than a hash. Those who imported items are
// its custodians.
func (f *Facts) datasetComponent(n *Node, c *cdx.Component) {
	d := n.Dataset
	c.Type = cdx.ComponentTypeData
	data := cdx.ComponentData{Type: cdx.ComponentDataTypeDataset, Name: displayName(n),
		Classification: string(d.DataKind)}
	if d.Simulated {
		data.Description = "ranked by simulated labellers"
	}
	if d.Generated {
		data.Description = "made by the program"
	}
	var custodians []cdx.ComponentDataGovernanceResponsibleParty
	for _, e := range f.Lineage.From(n.ID) {
		if to := f.Lineage.Node(e.To); e.Role == RoleImported {
			contact := &cdx.OrganizationalContact{Name: to.Import.Actor}
			custodians = append(custodians, cdx.ComponentDataGovernanceResponsibleParty{Contact: contact})
		}
	}
	if len(custodians) > 0 {
		data.Governance = &cdx.DataGovernance{Custodians: &custodians}
	}
	c.Data = &[]cdx.ComponentData{data}
	c.Properties = properties(
		"trimtab:merkle_root", string(n.ID),
		"trimtab:items", strconv.Itoa(d.Items),
		"trimtab:held_out", strconv.Itoa(d.HeldOut),
		"trimtab:comparisons", strconv.Itoa(d.Pairs))
}

// properties pairs names with values.
func properties(words ...string) *[]cdx.Property {
	var list []cdx.Property
	for i := 0; i < len(words); i += 2 {
		list = append(list, cdx.Property{Name: words[i], Value: words[i+1]})
	}
	return &list
}

// fileComponents are the files of the stored model, and those that an exported
// folder has in another form.
func (f *Facts) fileComponents() []cdx.Component {
	var list []cdx.Component
	for _, file := range f.Files {
		list = append(list, fileComponent(file, "file:"+file.Name, ""))
	}
	for _, file := range f.Exported {
		list = append(list, fileComponent(file, "file:exported/"+file.Name, "as it is exported"))
	}
	return list
}

// fileComponent returns one file. ref is unique in the document: stored and
// exported files may have the same name.
func fileComponent(file ModelFile, ref, description string) cdx.Component {
	return cdx.Component{
		Type:        cdx.ComponentTypeFile,
		BOMRef:      ref,
		Name:        file.Name,
		Description: description,
		Hashes:      &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: file.Digest.Hex()}},
	}
}

// materials are the models, datasets and tokenizers behind the model, and the
// builds of the program that worked on them.
func (f *Facts) materials() []cdx.Component {
	list := []cdx.Component{}
	for i := range f.Lineage.Nodes {
		n := &f.Lineage.Nodes[i]
		if n.ID != f.Lineage.Model && material(n) {
			list = append(list, f.component(n))
		}
	}
	// A build is the SHA-256 of the program. Another value, as in tests, is a
	// version without a hash.
	for _, build := range f.builds() {
		c := cdx.Component{Type: cdx.ComponentTypeApplication, BOMRef: "build:" + build, Name: "trimtab",
			Version: build, PackageURL: purl}
		if d, err := trimtab.ParseDigest(build); err == nil {
			c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: d.Hex()}}
		}
		list = append(list, c)
	}
	return list
}

// material reports whether a node is a component of its own. People, configs
// and runs are not.
func material(n *Node) bool {
	return n.Kind == NodeModel || n.Kind == NodeDataset || n.Kind == NodeTokenizer
}

// builds are the programs that worked on any stage, in the order of their first
// stage.
func (f *Facts) builds() []string {
	var list []string
	for _, n := range f.stages() {
		if b := n.Attempt.Build; b != "" && !slices.Contains(list, b) {
			list = append(list, b)
		}
	}
	return list
}

// dependencyGraph says for each material what it was made from.
func (f *Facts) dependencyGraph() []cdx.Dependency {
	var list []cdx.Dependency
	for i := range f.Lineage.Nodes {
		n := &f.Lineage.Nodes[i]
		if !material(n) {
			continue
		}
		refs := []string{}
		add := func(ref string) {
			if ref != string(n.ID) && !slices.Contains(refs, ref) {
				refs = append(refs, ref)
			}
		}
		for _, e := range f.Lineage.From(n.ID) {
			if material(f.Lineage.Node(e.To)) {
				add(string(e.To))
			}
		}
		f.addInputs(n.ID, add)
		list = append(list, cdx.Dependency{Ref: string(n.ID), Dependencies: &refs})
	}
	return list
}

// addInputs adds what the attempt behind a node read and the build that ran it,
// and the same for the attempt that it resumed from, and so on. The loop is
// bounded, should the record contain a cycle.
func (f *Facts) addInputs(id trimtab.Digest, add func(string)) {
	a := f.Lineage.Producer(id)
	for seen := 0; a != nil && seen < len(f.Lineage.Nodes); seen++ {
		var before *AttemptFacts
		for _, e := range f.Lineage.From(IDOf(NodeAttempt, a.Name())) {
			to := f.Lineage.Node(e.To)
			if material(to) {
				add(string(to.ID))
			}
			if e.Role == RoleContinued {
				before = to.Attempt
			}
		}
		if a.Build != "" {
			add("build:" + a.Build)
		}
		a = before
	}
}

// modelCard returns the model card in CycloneDX's form.
func (f *Facts) modelCard() *cdx.MLModelCard {
	text := []cdx.MLInputOutputParameters{{Format: "text"}}
	out := text
	p := &cdx.MLModelParameters{
		Task:               "text-generation",
		ArchitectureFamily: "transformer",
		ModelArchitecture:  f.class(),
		Inputs:             &text,
		Outputs:            &out,
	}
	if f.Reward {
		number := []cdx.MLInputOutputParameters{{Format: "number"}}
		p.Task = "text-classification"
		p.Outputs = &number
	}
	if a := f.Lineage.Producer(f.Lineage.Model); a != nil {
		p.Approach = approach(a.StageKind)
	}
	var sets []cdx.MLDatasetChoice
	for _, n := range f.nodes(NodeDataset) {
		sets = append(sets, cdx.MLDatasetChoice{Ref: string(n.ID)})
	}
	if len(sets) > 0 {
		p.Datasets = &sets
	}
	limits := f.technicalLimits()
	c := &cdx.MLModelCard{BOMRef: "model-card", ModelParameters: p,
		Considerations: &cdx.MLModelCardConsiderations{TechnicalLimitations: &limits}}
	if e := f.Evaluation; e != nil {
		metrics := performanceMetrics(measures(e.Report, e.As, f.Reward), e.Report.Prompts)
		c.QuantitativeAnalysis = &cdx.MLQuantitativeAnalysis{PerformanceMetrics: &metrics}
	}
	return c
}

// approach returns CycloneDX's name for the kind of learning of a stage.
func approach(kind string) *cdx.MLModelParametersApproach {
	t, ok := map[string]cdx.MLModelParametersApproachType{
		"pretrain": cdx.MLModelParametersApproachTypeSelfSupervised,
		"sft":      cdx.MLModelParametersApproachTypeSupervised,
		"reward":   cdx.MLModelParametersApproachTypeSupervised,
		"ppo":      cdx.MLModelParametersApproachTypeReinforcementLearning,
	}[kind]
	if !ok {
		return nil
	}
	return &cdx.MLModelParametersApproach{Type: t}
}

// performanceMetrics returns measures in CycloneDX's form, with all their
// digits.
func performanceMetrics(list []measure, prompts int) []cdx.MLPerformanceMetric {
	metrics := []cdx.MLPerformanceMetric{}
	for _, m := range list {
		metric := cdx.MLPerformanceMetric{
			Type:  m.name + ", " + m.unit,
			Value: formatExact(m.value),
			Slice: quantity(prompts, "held-out prompt"),
		}
		if m.low != nil {
			metric.ConfidenceInterval = &cdx.MLPerformanceMetricConfidenceInterval{
				LowerBound: formatExact(*m.low),
				UpperBound: formatExact(*m.high),
			}
		}
		metrics = append(metrics, metric)
	}
	return metrics
}

// formatExact writes a number with the digits that give the same float64 back.
func formatExact(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// technicalLimits are the limitations of the card that hold out of context.
func (f *Facts) technicalLimits() []string {
	limits := []string{"What is not among the performance metrics was not measured."}
	if f.hasSimulatedLabels() {
		limits = append([]string{"The rankings are by simulated labellers: no person preferred anything."}, limits...)
	}
	return limits
}
