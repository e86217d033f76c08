// fork -- an accept loop with a process for each client, relaying every mail.
#include <sys/wait.h>
#include <unistd.h>

#include <Net/SMTP/Server.hpp>

#include "arguments.hpp"

using namespace Net::SMTP;

int main(int argc, char** argv) {
    const Arguments given(argc, argv, "Relays every mail, with a process for each client.", {listening, smart_host});
    Server server(given.all("--listen"), {.max_connections = 500});
    ready(server);

    while (auto connection = server.accept()) {
        for (pid_t ended; (ended = waitpid(-1, nullptr, WNOHANG)) > 0;) server.reaped(ended);
        const pid_t child = fork();
        if (child == 0) {
            server.close();  // the child's copy of the listening socket only
            {
                Server::Client client(std::move(connection));
                while (client.process()) Relay relay(client.FROM, client.TO, client.MSG, {.host = given("--via")});
            }
            _exit(0);
        }
        if (child > 0) server.forked(child, connection);  // so that the limits count it
    }
    for (pid_t ended; (ended = wait(nullptr)) > 0;) server.reaped(ended);  // who is still talking ends first
}
