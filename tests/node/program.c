/* What the containers of these tests run: `program say TEXT` prints the text and who it runs as, and `program serve PORT` answers
   whoever connects. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int serve(int port) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = INADDR_ANY};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 16)) {
        perror("listening");
        return 1;
    }
    const char answer[] = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nserved by a container\n";
    for (;;) {
        char request[4096];
        int client = accept(listener, NULL, NULL);
        if (client < 0) continue;
        if (read(client, request, sizeof request) > 0 && write(client, answer, strlen(answer)) < 0) perror("answering");
        close(client);
    }
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "serve")) return serve(atoi(argv[2]));
    if (argc != 3 || strcmp(argv[1], "say")) return 2;
    printf("%s, as user %d\n", argv[2], getuid());
    return 0;
}
