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

# A program pays only for what it uses: what needs more than the system's own libraries is a library of its own.
dns_sources := $(wildcard Server/Unbound*.cpp Server/DomainName.cpp)
dns_needs   := -lunbound -lidn2

sources  := $(filter-out $(dns_sources),$(wildcard Server/*.cpp Server/Plugins/*.cpp Relay/*.cpp))
objects  := $(sources:%.cpp=$(B)/o/%.o)
static   := $(B)/lib$(name).a
shared   := $(B)/lib$(name).so.$(VERSION)
dns_objects := $(dns_sources:%.cpp=$(B)/o/%.o)
dns_static  := $(B)/lib$(name)-dns.a
dns_shared  := $(B)/lib$(name)-dns.so.$(VERSION)
kit      := $(B)/lib$(name)-test.a
# For programs that test their own mail (Test.hpp): an archive, nothing of it is in the library.
kit_objects := $(patsubst %.cpp,$(B)/o/%.o,$(wildcard Server/Test/*.cpp))
libraries := $(static) $(shared) $(dns_static) $(dns_shared) $(kit)
examples := $(patsubst %.cpp,$(B)/%,$(wildcard examples/*.cpp))
tests    := $(patsubst %.cpp,$(B)/o/%.o,$(wildcard t/*.cpp))
benches  := $(patsubst t/bench/%.cpp,$(B)/bench/%,$(wildcard t/bench/*.cpp))
# Our own headers that only our own .cpp files may see.
private  := Server/Shared.hpp Server/Content.hpp Server/Files.hpp Server/Socket.hpp Server/Pipeline.hpp Server/Memory.hpp Server/Text.hpp Server/Body.hpp \
            Server/Unbound.hpp Server/DomainName.hpp Server/Test/Wire.hpp Relay/HostWalk.hpp Relay/Transfer.hpp Relay/Plan.hpp Relay/FinalText.hpp Relay/Child.hpp
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
  echo '$(dns_objects)' | cmp -s - $(B)/dns.list || echo '$(dns_objects)' > $(B)/dns.list; \
  echo '$(kit_objects)' | cmp -s - $(B)/kit.list || echo '$(kit_objects)' > $(B)/kit.list)

$(static): $(objects) $(B)/objects.list
$(dns_static): $(dns_objects) $(B)/dns.list
$(kit): $(kit_objects) $(B)/kit.list
$(static) $(dns_static) $(kit):
	@rm -f $@
	$(call say,archive)
	$(Q)ar rcs $@ $(filter %.o,$^)

$(shared): $(objects) $(B)/objects.list
$(dns_shared): $(dns_objects) $(shared) $(B)/dns.list
$(dns_shared): private needs := $(dns_needs)
$(shared) $(dns_shared):
	$(call say,link)
	$(Q)$(CXX) $(flags) $(CXXFLAGS) -shared -Wl,-soname,$(@F:.$(VERSION)=.$(SOVERSION)) $(filter %.o,$^) $(filter $(shared),$^) -o $@ $(LDFLAGS) $(needs)
	@ln -sf $(@F) $(@:.$(VERSION)=.$(SOVERSION))
	@ln -sf $(@F) $(@:.$(VERSION)=)

# A program links what its source asks for by name.
with_dns := $(shell grep -l 'Server/UnboundResolver\.hpp' examples/*.cpp t/bench/*.cpp)
with_kit := $(shell grep -l 'SMTP/Test\.hpp' examples/*.cpp t/bench/*.cpp)
$(patsubst $(B)/t/bench/%,$(B)/bench/%,$(with_dns:%.cpp=$(B)/%)): $(dns_static)
$(patsubst $(B)/t/bench/%,$(B)/bench/%,$(with_kit:%.cpp=$(B)/%)): $(kit)
archives  = $(filter $(kit),$^) $(filter $(dns_static),$^) $(static)
needed    = $(if $(filter $(dns_static),$^),$(dns_needs)) $(if $(shell grep -l '<Poco/' $(1)),-lPocoNet -lPocoFoundation)

$(B)/examples/%: $(B)/o/examples/%.o $(static)
	@mkdir -p $(@D)
	$(call say,link)
	$(Q)$(CXX) $(flags) $(CXXFLAGS) $< $(archives) -o $@ $(LDFLAGS) $(call needed,examples/$*.cpp)

$(B)/t/check: $(tests) $(kit) $(dns_static) $(static)
	@mkdir -p $(@D)
	$(call say,link)
	$(Q)$(CXX) $(flags) $(CXXFLAGS) $(tests) $(archives) -o $@ $(LDFLAGS) $(call needed,t/*.cpp)

$(B)/bench/%: $(B)/o/t/bench/%.o $(static)
	@mkdir -p $(@D)
	$(call say,link)
	$(Q)$(CXX) $(flags) $(CXXFLAGS) $< $(archives) -o $@ $(LDFLAGS) $(call needed,t/bench/$*.cpp)

-include $(shell find $(B)/o -name '*.d' 2>/dev/null)

deps:
	@t/deps all

# ---- the two commands ----

LISTEN ?= 127.0.0.1:2525
run:
	@t/deps build
	@$(MAKE) --no-print-directory $(B)/examples/demo $(B)/examples/relay
	$(if $(RELAY),$(B)/examples/relay --listen $(LISTEN) --via $(RELAY),$(B)/examples/demo --listen $(LISTEN) --dir build/mail) $(if $(TRUSTED),--trusted '$(TRUSTED)')

check: deps
	@$(MAKE) --no-print-directory all tests-built
	@BUILD=$(B) t/all

tests-built: $(B)/t/check all

# The unit tests alone.
test: $(B)/t/check
	$(B)/t/check

bench: deps
	@$(MAKE) --no-print-directory $(B)/examples/sink $(B)/examples/relay $(benches)
	t/bench/compare
	t/bench/relay

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
	  'Cflags: -I$${includedir} -pthread' 'Libs: -L$${libdir} -l$(name) -pthread' \
	  > $(lib)/pkgconfig/$(name).pc
	printf '%s\n' 'libdir=$(LIBDIR)' '' 'Name: $(name)-dns' \
	  'Description: the DNS for $(name), by libunbound' 'Version: $(VERSION)' \
	  'Requires: $(name)' 'Libs: -L$${libdir} -l$(name)-dns' 'Libs.private: $(dns_needs)' \
	  > $(lib)/pkgconfig/$(name)-dns.pc
	printf '%s\n' 'libdir=$(LIBDIR)' '' 'Name: $(name)-test' \
	  'Description: servers, a client and a DNS to test programs with' 'Version: $(VERSION)' \
	  'Requires: $(name)' 'Libs: -L$${libdir} -l$(name)-test' \
	  > $(lib)/pkgconfig/$(name)-test.pc
	sed -e 's|@PREFIX@|$(PREFIX)|g; s|@LIBDIR@|$(LIBDIR)|g; s|@VERSION@|$(VERSION)|g' t/install/config.cmake.in \
	  > $(lib)/cmake/$(name)/$(name)-config.cmake
	sed -e 's|@VERSION@|$(VERSION)|g' t/install/config-version.cmake.in \
	  > $(lib)/cmake/$(name)/$(name)-config-version.cmake

# ---- care ----

code := $(wildcard *.hpp Server/*.[ch]pp Server/Test/*.[ch]pp Relay/*.[ch]pp examples/*.[ch]pp t/*.[ch]pp t/bench/*.[ch]pp)
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
	rm -rf build/o build/examples build/t build/bench build/clang++* build/address* build/thread* build/lib$(name)* build/objects.list build/dns.list build/kit.list
