# Net::SMTP::Server for C++ -- build, check, run, bench, install.
#
#   make                 library and examples (build/)         make check     all tests
#   make run             the relay on 127.0.0.1:2525           make bench     side by side with peers
#   make deps            installs what is missing              make install   PREFIX=/usr/local DESTDIR=
#   make format lint     clang-format, clang-tidy, layers      make clean
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
CXXFLAGS ?= -O2 -g
SANITIZE ?=

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
extras     := dns sasl handlers
dns_sources  := $(wildcard Server/Unbound*.cpp Server/DomainName.cpp)
dns_needs    := -lunbound -lidn2
dns_headers  := Server/UnboundResolver\.hpp
sasl_sources := $(wildcard Server/Sasl*.cpp Server/Gsasl*.cpp Server/AuthFile*.cpp Relay/Sasl*.cpp)
sasl_needs   := -lgsasl -lcrypto
sasl_headers := Server/Sasl[A-Za-z]*\.hpp\|Server/AuthFile\.hpp\|Relay/SaslLogin\.hpp\|"security\.hpp"\|"next_hop\.hpp"
handlers_sources := Relay/Handlers.cpp
handlers_needs   := -lre2
handlers_headers := Relay/Handlers\.hpp

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
private  := Server/Plugins/LogText.hpp Server/Plugins/PerSession.hpp Server/Shared.hpp Server/AuthFailures.hpp Server/Base64.hpp Server/Content.hpp Server/Files.hpp Server/Header.hpp Server/Listener.hpp Server/Socket.hpp Server/Mailbox.hpp Server/Memory.hpp Server/Text.hpp Server/Body.hpp \
            Server/Unbound.hpp Server/DomainName.hpp Server/Test/Wire.hpp Server/OpenSSL.hpp Server/Gsasl.hpp Server/SaslCrypto.hpp Server/SaslMechanisms.hpp Server/SaslScram.hpp Relay/SaslLoginExchanges.hpp Relay/HostWalk.hpp Relay/Transfer.hpp Relay/Plan.hpp Relay/FinalText.hpp Relay/Child.hpp
top      := Server.hpp Poco.hpp $(wildcard Test.hpp)
headers  := $(filter-out $(private),$(wildcard Server/*.hpp Server/Test/*.hpp Server/Plugins/*.hpp Relay/*.hpp))

.PHONY: all check run deps bench install format lint clean test tests-built print-headers print-private print-build print-build
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
	$(Q)$(CXX) $(flags) $(CXXFLAGS) $(CPPFLAGS) $(include) -MMD -MP -c $< -o $@

# Tests are slow to optimize, above all under a sanitizer, and gain nothing by it. What measures does.
$(B)/o/t/%.o: CXXFLAGS := -O0 -g1
$(B)/o/t/bench/%.o: CXXFLAGS := -O2 -g
$(B)/o/t/text.o: CXXFLAGS := -O1 -g1

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
$(shared) $(extra_shareds):
	$(call say,link)
	$(Q)$(CXX) $(flags) $(CXXFLAGS) -shared -Wl,-soname,$(@F:.$(VERSION)=.$(SOVERSION)) $(filter %.o,$^) $(filter $(shared),$^) -o $@ $(LDFLAGS) $(needs)
	@ln -sf $(@F) $(@:.$(VERSION)=.$(SOVERSION))
	@ln -sf $(@F) $(@:.$(VERSION)=)

# A program links what its source, or what examples share, asks for by name.
asks_for  = $(patsubst $(B)/t/bench/%,$(B)/bench/%,$(patsubst %.cpp,$(B)/%,$(shell grep -l '$(1)' examples/*.cpp t/bench/*.cpp)))
$(foreach x,$(extras),$(eval $(call asks_for,$($(x)_headers)): $($(x)_static)))
$(call asks_for,SMTP/Test\.hpp): $(kit)
archives  = $(filter $(kit),$^) $(filter $(extra_statics),$^) $(static)
needed    = $(foreach x,$(extras),$(if $(filter $($(x)_static),$^),$($(x)_needs))) $(core_needs) $(if $(shell grep -lE '<(Poco/|Net/SMTP/Poco)' $(1)),-lPocoNet -lPocoFoundation)

$(B)/examples/%: $(B)/o/examples/%.o $(static)
	@mkdir -p $(@D)
	$(call say,link)
	$(Q)$(CXX) $(flags) $(CXXFLAGS) $< $(archives) -Wl,--as-needed -o $@ $(LDFLAGS) $(call needed,examples/$*.cpp)

$(B)/t/check: $(tests) $(kit) $(extra_statics) $(static)
	@mkdir -p $(@D)
	$(call say,link)
	$(Q)$(CXX) $(flags) $(CXXFLAGS) $(tests) $(archives) -o $@ $(LDFLAGS) $(call needed,t/*.cpp)

$(B)/bench/%: $(B)/o/t/bench/%.o $(static)
	@mkdir -p $(@D)
	$(call say,link)
	$(Q)$(CXX) $(flags) $(CXXFLAGS) $< $(archives) -Wl,--as-needed -o $@ $(LDFLAGS) $(call needed,t/bench/$*.cpp)

-include $(shell find $(B)/o -name '*.d' 2>/dev/null)

deps:
	@t/deps all

# ---- the two commands ----

# With variables: LISTEN= RELAY= TRUSTED=, those for TLS and AUTH below, or any arguments of the program as ARGS='...'.
# VIA_... are for the next hop that RELAY names.
LISTEN ?= 127.0.0.1:2525
flag    = $(if $($(1)),$(2) '$($(1))')
run_with = $(call flag,TRUSTED,--trusted) $(call flag,TLS_CERT,--tls-cert) $(call flag,TLS_KEY,--tls-key) $(call flag,TLS_PORT,--tls-port) \
  $(if $(filter-out 0,$(REQUIRE_TLS)),--require-tls) $(call flag,AUTH_FILE,--auth-file) \
  $(call flag,VIA_TLS,--via-tls) $(call flag,VIA_CA,--via-ca) $(call flag,VIA_USER,--via-user) $(call flag,VIA_PASS_FILE,--via-pass-file) $(ARGS)
for_next_hop = $(strip $(foreach v,VIA_TLS VIA_CA VIA_USER VIA_PASS_FILE,$(if $($(v)),$(v))))
run:
	$(if $(RELAY),,$(if $(for_next_hop),$(error $(for_next_hop): has no effect without RELAY=HOST:PORT)))
	@t/deps build
	@$(MAKE) --no-print-directory $(B)/examples/demo $(B)/examples/relay
	$(if $(RELAY),$(B)/examples/relay --listen $(LISTEN) --via $(RELAY),$(B)/examples/demo --listen $(LISTEN) --dir build/mail) $(run_with)

check: deps
	@$(MAKE) --no-print-directory all tests-built
	@BUILD=$(B) t/all

tests-built: $(B)/t/check all

# The unit tests alone.
test: $(B)/t/check
	BUILD=$(B) t/unit

bench: deps
	@$(MAKE) --no-print-directory $(B)/examples/sink $(B)/examples/relay $(benches)
	t/bench/compare
	t/bench/relay
	t/bench/tls
	$(B)/bench/events

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
	printf '%s\n' 'libdir=$(LIBDIR)' '' 'Name: $(name)-test' \
	  'Description: servers, a client and a DNS to test programs with' 'Version: $(VERSION)' \
	  'Requires: $(name)' 'Libs: -L$${libdir} -l$(name)-test -lcrypto' \
	  > $(lib)/pkgconfig/$(name)-test.pc
	sed -e 's|@PREFIX@|$(PREFIX)|g; s|@LIBDIR@|$(LIBDIR)|g; s|@VERSION@|$(VERSION)|g' t/install/config.cmake.in \
	  > $(lib)/cmake/$(name)/$(name)-config.cmake
	sed -e 's|@VERSION@|$(VERSION)|g' t/install/config-version.cmake.in \
	  > $(lib)/cmake/$(name)/$(name)-config-version.cmake

# ---- care ----

code := $(wildcard *.hpp Server/*.[ch]pp Server/Plugins/*.[ch]pp Server/Test/*.[ch]pp Relay/*.[ch]pp examples/*.[ch]pp t/*.[ch]pp t/bench/*.[ch]pp)
format:
	clang-format -i $(code)

lint:
	@t/lint

print-headers:
	@echo $(headers)
print-build:
	@echo $(B)
print-private:
	@echo $(private) ''

clean:
	rm -rf build/o build/examples build/t build/bench build/clang++* build/address* build/thread* build/lib$(name)* build/*.list
