module countersign.dev/testbed/programs

go 1.26.0
