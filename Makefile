# Net::SMTP::Server for C++ -- build, check, run, bench, install.
#
#   make                 library and examples (build/)         make check     all tests
#   make run             the relay on 127.0.0.1:2525           make bench     side by side with peers
#   make deps            installs what is missing              make install   PREFIX=/usr/local DESTDIR=
#   make format lint     clang-format, clang-tidy, layers      make clean
#   make fuzz            each target of t/fuzz/ for TIME=60 seconds, or some: TARGETS=address,bdat
#
# CXX=clang++ and SANITIZE=address,undefined (or thread) build apart, under build/CXX-SANITIZE.

VERSION  := 0.1.0
SOVERSION := 0
CXX      ?= g++
ifeq ($(origin CXX),default)
CXX      := g++
endif
PREFIX   ?= /usr/local
LIBDIR   ?= $(PREFIX)/lib
SANITIZE ?=
# What is sanitized is for finding faults: it is compiled in half the time.
CXXFLAGS ?= $(if $(SANITIZE),-O1 -g1,-O2 -g)

variant := $(if $(filter g++,$(CXX)),,$(notdir $(CXX)))$(if $(SANITIZE),-$(SANITIZE))
# What is run is told in a word; V=1 shows it whole.
Q       := $(if $(V),,@)
say      = $(if $(V),,@echo '  $(1) $@')
comma   := ,
B       := build$(if $(variant),/$(patsubst -%,%,$(subst $(comma),-,$(variant))))

flags   := -std=c++20 -fPIC -pthread -Wall -Wextra -Wpedantic -Wshadow -Werror $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all)
include := -Ibuild/include
name    := net-smtp-server

# A program pays only for what it uses. The core needs OpenSSL, and only where a program encrypts; what needs more is a
# library of its own: its sources, what they need, and which headers a source that is to be linked with it names.
core_needs := -lssl -lcrypto
# Who needs another of them comes before it, as linkers want it.
extras     := queue-pg queue handlers dns sasl
dns_sources  := $(wildcard Server/Unbound*.cpp Server/DomainName.cpp)
dns_needs    := -lunbound -lidn2
dns_headers  := Server/UnboundResolver\.hpp
sasl_sources := $(wildcard Server/Sasl*.cpp Server/Gsasl*.cpp Server/AuthFile*.cpp Relay/Sasl*.cpp)
sasl_needs   := -lgsasl -lcrypto
sasl_headers := Server/Sasl[A-Za-z]*\.hpp\|Server/AuthFile\.hpp\|Relay/SaslLogin\.hpp\|"security\.hpp"\|"next_hop\.hpp"
handlers_sources := Relay/Handlers.cpp
handlers_needs   := -lre2
handlers_headers := Relay/Handlers\.hpp
queue_sources := $(wildcard Relay/Queue*.cpp Relay/Store*.cpp Relay/Schedule*.cpp Relay/Bounce*.cpp Relay/Sqlite*.cpp)
queue_needs   := -lsqlite3
queue_headers := "open_store\.hpp"\|Relay/Queue\.hpp\|Relay/SqliteStore\.hpp\|Relay/Bounce\.hpp\|Relay/Schedule\.hpp\|Relay/PostgresStore\.hpp
queue-pg_sources := $(wildcard Relay/Postgres*.cpp)
queue-pg_needs   := -lpq
queue-pg_include  = $(addprefix -I,$(or $(shell pg_config --includedir 2>/dev/null),/usr/include/postgresql))
queue-pg_headers := "open_store\.hpp"\|Relay/PostgresStore\.hpp

sources  := $(filter-out $(foreach x,$(extras),$($(x)_sources)),$(wildcard Server/*.cpp Server/Plugins/*.cpp Relay/*.cpp))
objects  := $(sources:%.cpp=$(B)/o/%.o)
static   := $(B)/lib$(name).a
shared   := $(B)/lib$(name).so.$(VERSION)
define extra
$(1)_objects := $$($(1)_sources:%.cpp=$(B)/o/%.o)
$(1)_static  := $(B)/lib$(name)-$(1).a
$(1)_shared  := $(B)/lib$(name)-$(1).so.$(VERSION)
endef
$(foreach x,$(extras),$(eval $(call extra,$(x))))
extra_statics := $(foreach x,$(extras),$($(x)_static))
extra_shareds := $(foreach x,$(extras),$($(x)_shared))
kit      := $(B)/lib$(name)-test.a
# For programs that test their own mail (Test.hpp): an archive, nothing of it is in the library.
kit_objects := $(patsubst %.cpp,$(B)/o/%.o,$(wildcard Server/Test/*.cpp))
libraries := $(static) $(shared) $(extra_statics) $(extra_shareds) $(kit)
examples := $(patsubst %.cpp,$(B)/%,$(wildcard examples/*.cpp))
tests    := $(patsubst %.cpp,$(B)/o/%.o,$(wildcard t/*.cpp))
benches  := $(patsubst t/bench/%.cpp,$(B)/bench/%,$(wildcard t/bench/*.cpp))
# Our own headers that only our own .cpp files may see.
private  := Server/Plugins/LogText.hpp Server/Plugins/PerSession.hpp Server/Shared.hpp Server/AuthFailures.hpp Server/Base64.hpp Server/Content.hpp Server/Files.hpp Server/Header.hpp Server/Listener.hpp Server/Socket.hpp Server/Turns.hpp Server/Handshakes.hpp Server/Mailbox.hpp Server/Memory.hpp Server/Text.hpp Server/Body.hpp \
            Server/Unbound.hpp Server/DomainName.hpp Server/Utf8Address.hpp Server/Test/Wire.hpp Server/OpenSSL.hpp Server/Gsasl.hpp Server/SaslCrypto.hpp Server/SaslMechanisms.hpp Server/SaslScram.hpp Relay/SaslLoginExchanges.hpp Relay/QueueRoutes.hpp Relay/QueueVoice.hpp Relay/QueueDelivery.hpp Relay/QueueAgent.hpp Relay/HostWalk.hpp Relay/Transfer.hpp Relay/International.hpp Relay/Plan.hpp Relay/FinalText.hpp Relay/Child.hpp Relay/BounceText.hpp Relay/BounceParts.hpp Relay/StoreCodec.hpp Relay/StoreWriter.hpp Relay/SqliteConnection.hpp Relay/SqliteFiles.hpp Relay/SqliteLog.hpp Relay/SqliteMail.hpp Relay/SqliteSchema.hpp Relay/SqliteState.hpp
private  += $(filter-out Relay/PostgresStore.hpp,$(wildcard Relay/Postgres*.hpp))
top      := Server.hpp Poco.hpp $(wildcard Test.hpp)
headers  := $(filter-out $(private),$(wildcard Server/*.hpp Server/Test/*.hpp Server/Plugins/*.hpp Relay/*.hpp))

.PHONY: all check run deps bench interop-doc fuzz fuzzers-built install format lint clean test tests-built print-headers print-private print-build print-test-archives print-test-needs
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

all: $(libraries) $(examples)

# <Net/SMTP/Server.hpp> means the same in the tree and installed.
build/include/Net/SMTP:
	@mkdir -p build/include/Net
	@ln -sfn ../../.. $@

$(B)/o/%.o: %.cpp | build/include/Net/SMTP
	@mkdir -p $(@D)
	$(call say,compile)
	$(Q)$(CXX) $(flags) $(CXXFLAGS) $(CPPFLAGS) $(include) $(precompiled) -MMD -MP -c $< -o $@

$(queue-pg_objects) $(B)/o/t/postgres_store.o: private include += $(queue-pg_include)

# Tests are slow to optimize, above all under a sanitizer, and gain nothing by it. What measures does.
$(B)/o/t/%.o: CXXFLAGS := -O0 -g1
$(B)/o/t/bench/%.o: CXXFLAGS := -O2 -g
$(B)/o/t/text.o: CXXFLAGS := -O1 -g1
$(B)/o/t/fuzz/%.o: CXXFLAGS := -O1 -g1

# What most of them include is compiled once for each way of building; PCH= does without.
PCH     := 1
common  := $(B)/o/t/common.hpp
ifneq ($(PCH),)
sharing := $(patsubst %.cpp,$(B)/o/%.o,$(shell grep -l '^#include "[a-z_]*\.hpp"' t/*.cpp))
$(sharing): $(common).gch
$(sharing): private precompiled := -include $(common)
endif
$(common).gch: CXXFLAGS := -O0 -g1
$(common).gch: private precompiled := $(if $(findstring clang,$(CXX)),-fpch-instantiate-templates -Xclang -fno-pch-timestamp)
$(common).gch: t/common.hpp | build/include/Net/SMTP
	@mkdir -p $(@D)
	$(call say,compile)
	$(Q)$(CXX) $(flags) $(CXXFLAGS) $(CPPFLAGS) $(include) $(precompiled) -MMD -MP -x c++-header $< -o $@
# Or ccache would keep nothing of all these.
export CCACHE_SLOPPINESS ?= pch_defines,time_macros

.SECONDARY:

# A file that has gone must leave the archive too: it is made anew when the list changes.
$(shell mkdir -p $(B); \
  echo '$(objects)' | cmp -s - $(B)/objects.list || echo '$(objects)' > $(B)/objects.list; \
  $(foreach x,$(extras),echo '$($(x)_objects)' | cmp -s - $(B)/$(x).list || echo '$($(x)_objects)' > $(B)/$(x).list;) \
  echo '$(kit_objects)' | cmp -s - $(B)/kit.list || echo '$(kit_objects)' > $(B)/kit.list)

$(static): $(objects) $(B)/objects.list
$(foreach x,$(extras),$(eval $($(x)_static): $($(x)_objects) $(B)/$(x).list))
$(kit): $(kit_objects) $(B)/kit.list
$(static) $(extra_statics) $(kit):
	@rm -f $@
	$(call say,archive)
	$(Q)ar rcs $@ $(filter %.o,$^)

$(shared): $(objects) $(B)/objects.list
$(shared): private needs := $(core_needs)
$(foreach x,$(extras),$(eval $($(x)_shared): $($(x)_objects) $(shared) $(B)/$(x).list)\
  $(eval $($(x)_shared): private needs := $($(x)_needs)))
$(queue-pg_shared): $(queue_shared)
$(shared) $(extra_shareds):
	$(call say,link)
	$(Q)$(CXX) $(flags) $(CXXFLAGS) -shared -Wl,-soname,$(@F:.$(VERSION)=.$(SOVERSION)) $(filter %.o,$^) $(filter %.so.$(VERSION),$^) -o $@ $(LDFLAGS) $(needs)
	@ln -sf $(@F) $(@:.$(VERSION)=.$(SOVERSION))
	@ln -sf $(@F) $(@:.$(VERSION)=)

# A program links what its source, the files in the folder of its name, or what examples share, asks for by name.
asks_for  = $(patsubst $(B)/t/bench/%,$(B)/bench/%,$(patsubst %.cpp,$(B)/%,$(sort $(shell grep -l '$(1)' examples/*.cpp examples/*/*.hpp t/bench/*.cpp | sed 's,^\(examples/[^/]*\)/.*,\1.cpp,'))))
$(foreach x,$(extras),$(eval $(call asks_for,$($(x)_headers)): $($(x)_static)))
$(call asks_for,SMTP/Test\.hpp): $(kit)
archives  = $(filter $(kit),$^) $(foreach x,$(extras),$(filter $($(x)_static),$^)) $(static)
needed    = $(foreach x,$(extras),$(if $(filter $($(x)_static),$^),$($(x)_needs))) $(core_needs) \
  $(if $(shell grep -lE '<Poco/Util|"smtpd/' $(1)),-lPocoUtil -lPocoJSON -lPocoXML) $(if $(shell grep -lE '<(Poco/|Net/SMTP/Poco)|"smtpd/' $(1)),-lPocoNet -lPocoFoundation)

$(B)/examples/%: $(B)/o/examples/%.o $(static)
	@mkdir -p $(@D)
	$(call say,link)
	$(Q)$(CXX) $(flags) $(CXXFLAGS) $< $(archives) -Wl,--as-needed -o $@ $(LDFLAGS) $(call needed,examples/$*.cpp)

# The tests use all there is.
test_archives := $(kit) $(extra_statics) $(static)
test_needs    := $(foreach x,$(extras),$($(x)_needs)) $(core_needs) -lPocoNet -lPocoFoundation
# A test counts allocations; so does clang's sanitizer of threads, in an archive: the test's come first.
$(B)/t/check: private LDFLAGS += $(if $(findstring clang,$(CXX)),$(if $(findstring thread,$(SANITIZE)),-Wl$(comma)-z$(comma)muldefs))
$(B)/t/check: $(tests) $(test_archives)
	@mkdir -p $(@D)
	$(call say,link)
	$(Q)$(CXX) $(flags) $(CXXFLAGS) $(tests) $(test_archives) -o $@ $(LDFLAGS) $(test_needs)

$(B)/bench/%: $(B)/o/t/bench/%.o $(static)
	@mkdir -p $(@D)
	$(call say,link)
	$(Q)$(CXX) $(flags) $(CXXFLAGS) $< $(archives) -Wl,--as-needed -o $@ $(LDFLAGS) $(call needed,t/bench/$*.cpp)

-include $(shell find $(B)/o -name '*.d' 2>/dev/null)

deps:
	@t/deps all

# ---- the two commands ----

# With variables: LISTEN= RELAY= TRUSTED=, those for TLS and AUTH below, or any options of the daemon as ARGS='...'.
# VIA_... are for the next hop that RELAY names. Mail for this machine's name and localhost is kept, as maildirs.
LISTEN  ?= 127.0.0.1:2525
TRUSTED ?= 127.0.0.0/8,::1
flag     = $(if $($(1)),$(2) '$($(1))')
run_with = $(call flag,TRUSTED,--trusted) $(call flag,TLS_CERT,--tls_cert) $(call flag,TLS_KEY,--tls_key) \
  $(if $(filter-out 0,$(REQUIRE_TLS)),--require_tls true) $(call flag,AUTH_FILE,--auth_file) $(call flag,RELAY,--relay) \
  $(call flag,VIA_TLS,--relay_tls) $(call flag,VIA_CA,--relay_ca) $(call flag,VIA_USER,--relay_user) $(call flag,VIA_PASS_FILE,--relay_pass_file) $(ARGS)
for_next_hop = $(strip $(foreach v,VIA_TLS VIA_CA VIA_USER VIA_PASS_FILE,$(if $($(v)),$(v))))
run:
	$(if $(RELAY),,$(if $(for_next_hop),$(error $(for_next_hop): has no effect without RELAY=HOST:PORT)))
	@t/deps build
	@$(MAKE) --no-print-directory $(B)/examples/smtpd $(B)/examples/smtpq
	$(B)/examples/smtpd --listen '$(LISTEN)$(TLS_PORT:%=,tls:%)' --queue build/queue --maildir 'build/mail/{domain}/{local}' --mailboxes any --domains "localhost,$$(uname -n)" $(run_with)

check: deps
	@$(MAKE) --no-print-directory all tests-built
	@BUILD=$(B) t/all

# What tests of the queue's store run, kill and put into trouble.
$(B)/t/storekeeper: $(B)/o/t/interop/storekeeper.o $(queue-pg_static) $(queue_static) $(static)
	@mkdir -p $(@D)
	$(call say,link)
	$(Q)$(CXX) $(flags) $(CXXFLAGS) $< $(archives) -o $@ $(LDFLAGS) $(call needed,t/interop/storekeeper.cpp)

# What the search for leaks must find one in.
$(B)/t/leaky: $(B)/o/t/nights/leaky.o $(static)
	@mkdir -p $(@D)
	$(call say,link)
	$(Q)$(CXX) $(flags) $(CXXFLAGS) $< $(static) -Wl,--as-needed -o $@ $(LDFLAGS) $(core_needs)

# What is installed is not run: the shared libraries are left to install.
tests-built: $(B)/t/check $(B)/t/storekeeper $(B)/t/leaky $(examples)

# The unit tests alone.
test: $(B)/t/check
	BUILD=$(B) t/unit

# Side by side with every peer that can be had: doc/BENCHMARKS.md. QUICK=1 takes under 3 minutes, into build/bench;
# CLASSES='memory tls' measures these alone.
bench: deps
	@$(MAKE) --no-print-directory $(B)/examples/sink $(B)/examples/relay $(B)/examples/smtpd $(benches)
	t/bench/run $(CLASSES)

# doc/INTEROP.md, of all who can be tried.
interop-doc: tests-built
	INTEROP=all t/interop/run --tried && t/interop/matrix

# ---- fuzzing ----

# The library is built apart for it, with libFuzzer's coverage and both sanitizers; only what the targets look at.
TIME      ?= 60
fuzzing   := CXX=clang++ SANITIZE=fuzzer-no-link,address,undefined
fuzzers   := $(patsubst t/fuzz/%.cpp,$(B)/fuzz/%,$(wildcard t/fuzz/*.cpp))
chosen    := $(if $(TARGETS),$(patsubst %,$(B)/fuzz/%,$(subst $(comma), ,$(TARGETS))),$(fuzzers))
fuzz_objects := $(patsubst %.cpp,$(B)/o/%.o,$(filter-out Server/Plugins/%,$(sources)) $(sasl_sources) $(wildcard Relay/Bounce*.cpp Relay/Store*.cpp Relay/Schedule*.cpp) Server/Plugins/Domains.cpp)
# Functions of the system that t/fuzz/wire.hpp takes the place of.
played     = $(if $(shell grep -sl '"wire.hpp"\|"session.hpp"' t/fuzz/$*.cpp),$(patsubst %,-Wl$(comma)--wrap=%,recv send poll connect close shutdown))
fuzz:
	@t/deps fuzz
	@$(MAKE) --no-print-directory $(fuzzing) fuzzers-built
	@BUILD=$$($(MAKE) -s --no-print-directory $(fuzzing) print-build) TIME=$(TIME) TARGETS=$(TARGETS) t/fuzz/run

# One target is built once more, and wrong: what finds nothing in it would find nothing anywhere.
fuzzers-built: $(chosen) $(B)/fuzz/wrong

$(B)/fuzz/library.a: $(fuzz_objects)
	@mkdir -p $(@D)
	@rm -f $@
	$(call say,archive)
	$(Q)ar rcs $@ $^

$(B)/o/t/fuzz/wrong.o: t/fuzz/text.cpp | build/include/Net/SMTP
	@mkdir -p $(@D)
	$(call say,compile)
	$(Q)$(CXX) $(flags) $(CXXFLAGS) -DWRONG $(include) -MMD -MP -c $< -o $@

$(B)/fuzz/%: $(B)/o/t/fuzz/%.o $(B)/fuzz/library.a
	@mkdir -p $(@D)
	$(call say,link)
	$(Q)$(CXX) $(flags:-fsanitize=%=) -fsanitize=fuzzer,address,undefined $(CXXFLAGS) $< $(B)/fuzz/library.a $(played) -Wl,--as-needed -o $@ \
	  $(LDFLAGS) $(sasl_needs) $(core_needs) $(if $(filter config,$*),-lPocoUtil -lPocoJSON -lPocoXML -lPocoFoundation)

# ---- install ----

lib := $(DESTDIR)$(LIBDIR)
install: $(libraries)
	install -d $(lib)/pkgconfig $(lib)/cmake/$(name)
	for header in $(top) $(headers); do install -D -m 644 $$header $(DESTDIR)$(PREFIX)/include/Net/SMTP/$$header || exit 1; done
	install -m 644 $(filter %.a,$(libraries)) $(lib)/
	for shared in $(notdir $(filter-out %.a,$(libraries))); do \
	  install -m 755 $(B)/$$shared $(lib)/ && \
	  ln -sf $$shared $(lib)/$${shared%.$(VERSION)}.$(SOVERSION) && ln -sf $$shared $(lib)/$${shared%.$(VERSION)} || exit 1; done
	printf '%s\n' 'prefix=$(PREFIX)' 'includedir=$${prefix}/include' 'libdir=$(LIBDIR)' '' 'Name: $(name)' \
	  'Description: SMTP server toolkit: receive, inspect, refuse, store and relay mail' 'Version: $(VERSION)' \
	  'Cflags: -I$${includedir} -pthread' 'Libs: -L$${libdir} -l$(name) -pthread' 'Libs.private: $(core_needs)' \
	  > $(lib)/pkgconfig/$(name).pc
	printf '%s\n' 'libdir=$(LIBDIR)' '' 'Name: $(name)-dns' \
	  'Description: the DNS for $(name), by libunbound' 'Version: $(VERSION)' \
	  'Requires: $(name)' 'Libs: -L$${libdir} -l$(name)-dns' 'Libs.private: $(dns_needs)' \
	  > $(lib)/pkgconfig/$(name)-dns.pc
	printf '%s\n' 'libdir=$(LIBDIR)' '' 'Name: $(name)-sasl' \
	  'Description: SASL mechanisms for $(name), by libgsasl' 'Version: $(VERSION)' \
	  'Requires: $(name)' 'Libs: -L$${libdir} -l$(name)-sasl' 'Libs.private: $(sasl_needs)' \
	  > $(lib)/pkgconfig/$(name)-sasl.pc
	printf '%s\n' 'libdir=$(LIBDIR)' '' 'Name: $(name)-handlers' \
	  'Description: handlers by recipient patterns for $(name), by RE2' 'Version: $(VERSION)' \
	  'Requires: $(name)' 'Libs: -L$${libdir} -l$(name)-handlers' 'Libs.private: $(handlers_needs)' \
	  > $(lib)/pkgconfig/$(name)-handlers.pc
	printf '%s\n' 'libdir=$(LIBDIR)' '' 'Name: $(name)-queue' \
	  'Description: a durable queue for $(name), in SQLite' 'Version: $(VERSION)' \
	  'Requires: $(name)' 'Libs: -L$${libdir} -l$(name)-queue' 'Libs.private: $(queue_needs)' \
	  > $(lib)/pkgconfig/$(name)-queue.pc
	printf '%s\n' 'libdir=$(LIBDIR)' '' 'Name: $(name)-queue-pg' \
	  'Description: the queue of $(name) in PostgreSQL, for several machines' 'Version: $(VERSION)' \
	  'Requires: $(name)-queue' 'Libs: -L$${libdir} -l$(name)-queue-pg' 'Libs.private: $(queue-pg_needs)' \
	  > $(lib)/pkgconfig/$(name)-queue-pg.pc
	printf '%s\n' 'libdir=$(LIBDIR)' '' 'Name: $(name)-test' \
	  'Description: servers, a client and a DNS to test programs with' 'Version: $(VERSION)' \
	  'Requires: $(name)' 'Libs: -L$${libdir} -l$(name)-test -lcrypto' \
	  > $(lib)/pkgconfig/$(name)-test.pc
	sed -e 's|@PREFIX@|$(PREFIX)|g; s|@LIBDIR@|$(LIBDIR)|g; s|@VERSION@|$(VERSION)|g' t/install/config.cmake.in \
	  > $(lib)/cmake/$(name)/$(name)-config.cmake
	sed -e 's|@VERSION@|$(VERSION)|g' t/install/config-version.cmake.in \
	  > $(lib)/cmake/$(name)/$(name)-config-version.cmake

# ---- care ----

code := $(wildcard *.hpp Server/*.[ch]pp Server/Plugins/*.[ch]pp Server/Test/*.[ch]pp Relay/*.[ch]pp examples/*.[ch]pp examples/*/*.hpp t/*.[ch]pp t/bench/*.[ch]pp t/fuzz/*.[ch]pp)
format:
	clang-format -i $(code)

lint:
	@t/lint

print-headers:
	@echo $(headers)
print-build:
	@echo $(B)
# What a program of some of the tests alone is linked with.
print-test-archives:
	@echo $(test_archives)
print-test-needs:
	@echo $(test_needs)
print-private:
	@echo $(private) ''

clean:
	rm -rf build/o build/examples build/t build/bench build/clang++* build/address* build/thread* build/lib$(name)* build/*.list
